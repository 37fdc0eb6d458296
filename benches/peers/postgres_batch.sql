-- Many orders, one statement: $1 to $4 are their keys, users, SKUs and quantities. It places those
-- with new keys, of users who may have what they want together, and of SKUs that have enough for all
-- of these; it refuses what is sold out by now, and looks up keys that are known. Answers the place of
-- each in the arrays, and what the function `place` answers. What is left over is for that function.
-- Only one may run at a time.
--
-- The planner takes each of these sets for one row, so a join of two of them would compare all with
-- all: "(... IN ...) IS TRUE" is looked up in a hash.
WITH ask AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
        WITH ORDINALITY AS a (key, buyer, sku, quantity, n)
), known AS (
    SELECT n, CASE WHEN (o.buyer, o.sku, o.quantity) = (ask.buyer, ask.sku, ask.quantity)
        THEN o.id ELSE -1 END AS number
    FROM ask JOIN orders o USING (key)
), fresh AS (
    SELECT DISTINCT ON (key) ask.*, available, user_limit
    FROM ask JOIN stock USING (sku)
    WHERE (n IN (SELECT n FROM known)) IS NOT TRUE
    ORDER BY key, n
), wish AS (
    SELECT *, sum(quantity) OVER (PARTITION BY sku, buyer) AS theirs
    FROM fresh WHERE available >= quantity
), allowed AS (
    SELECT wish.* FROM wish LEFT JOIN bought b USING (sku, buyer)
    WHERE coalesce(b.units, 0) + theirs <= user_limit
), taken AS (
    UPDATE stock SET available = stock.available - want.units
    FROM (SELECT sku, sum(quantity)::bigint AS units FROM allowed GROUP BY sku) AS want
    WHERE stock.sku = want.sku AND stock.available >= want.units
    RETURNING stock.sku
), had AS (
    SELECT *, nextval(pg_get_serial_sequence('orders', 'id')) AS id
    FROM (SELECT * FROM allowed WHERE (sku IN (SELECT sku FROM taken)) IS TRUE ORDER BY n) AS sold
), counted AS (
    INSERT INTO bought AS b SELECT sku, buyer, sum(quantity) FROM had GROUP BY sku, buyer
    ON CONFLICT (sku, buyer) DO UPDATE SET units = b.units + excluded.units
), made AS (
    INSERT INTO orders (id, key, buyer, sku, quantity) OVERRIDING SYSTEM VALUE
    SELECT id, key, buyer, sku, quantity FROM had
)
SELECT n, id FROM had
UNION ALL SELECT n, number FROM known
UNION ALL SELECT n, 0 FROM fresh WHERE available < quantity
