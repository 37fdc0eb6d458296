-- Room in each page for new versions of a hot row: then its index need not be touched.
CREATE TABLE stock (
    sku text PRIMARY KEY,
    available bigint NOT NULL CHECK (available >= 0),
    user_limit bigint NOT NULL
) WITH (fillfactor = 50);

-- What each user has.
CREATE TABLE bought (
    sku text,
    buyer text,
    units bigint NOT NULL,
    PRIMARY KEY (sku, buyer)
);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    buyer text NOT NULL,
    sku text NOT NULL,
    quantity bigint NOT NULL
);

-- One order, one transaction: its number, 0 for sold out, -1 for a key of another request, -2 for a
-- user who would have too much. The stock comes last, so that its row is locked for the commit and nothing else. What can't be had
-- is refused without a write.
CREATE FUNCTION place(asked text, by text, of text, wanted bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    known orders;
    made bigint;
    most bigint;
BEGIN
    LOOP
        SELECT * INTO known FROM orders WHERE key = asked;
        IF FOUND THEN
            IF known.buyer = by AND known.sku = of AND known.quantity = wanted THEN
                RETURN known.id;
            END IF;
            RETURN -1;
        END IF;
        SELECT user_limit INTO most FROM stock WHERE sku = of AND available >= wanted;
        IF NOT FOUND THEN
            RETURN 0;
        END IF;
        INSERT INTO orders (key, buyer, sku, quantity) VALUES (asked, by, of, wanted)
            ON CONFLICT (key) DO NOTHING RETURNING id INTO made;
        EXIT WHEN made IS NOT NULL;
        -- Somebody else has just asked with this key: look again.
    END LOOP;
    INSERT INTO bought AS b SELECT of, by, wanted WHERE wanted <= most
        ON CONFLICT (sku, buyer) DO UPDATE SET units = b.units + wanted WHERE b.units + wanted <= most;
    IF NOT FOUND THEN
        DELETE FROM orders WHERE id = made;
        RETURN -2;
    END IF;
    UPDATE stock SET available = available - wanted WHERE sku = of AND available >= wanted;
    IF NOT FOUND THEN
        DELETE FROM orders WHERE id = made;
        UPDATE bought SET units = units - wanted WHERE sku = of AND buyer = by;
        RETURN 0;
    END IF;
    RETURN made;
END $$;
