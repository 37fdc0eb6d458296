//! CSV: traces and stock files.

use crate::Target;

/// A trace, as `tidegate replay` reads it.
pub const TRACE: Target = Target {
    name: "trace",
    run: tidegate::fuzz::trace,
    seeds: |_| {
        let header = "order_ref,placed_at,user,location,sku,quantity,amount_minor\n";
        let rows =
            "a,2017-02-04T00:00:00,u,main,mug,1,250\na,x,u,main,tee,0,0\nb,,v,north,\"t\",2,9";
        [format!("{header}{rows}\n"), header.to_owned()].map(String::into_bytes).to_vec()
    },
};

/// A stock file, as `tidegate import-stock` reads it.
pub const STOCK_FILE: Target = Target {
    name: "stock-file",
    run: tidegate::fuzz::stock_file,
    seeds: |_| {
        let header =
            "sku,delta,location,price_minor,currency,limit_per_user,backorder_limit,reason";
        let rows = "mug,5,main,100,EUR,2,0,new\n\ntee,-1,,,,,,\"a, b\"\n";
        vec![format!("{header}\n{rows}").into_bytes(), b"\xef\xbb\xbfdelta,sku\r\n1,x\r\n".to_vec()]
    },
};
