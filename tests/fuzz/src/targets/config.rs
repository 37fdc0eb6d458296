//! The server's configuration.

use crate::Target;

/// A configuration file.
pub const CONFIG: Target = Target {
    name: "config",
    run: |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            tidegate::fuzz::config(text);
        }
    },
    seeds: |_| {
        let key = "[[access.keys]]\nname = \"shop\"\nrole = \"sell\"\nsha256 = \"00\"\n\
                   expires_at = \"2030-01-01T00:00:00Z\"\nallow = [\"10.0.0.0/8\"]\n";
        vec![
            tidegate::fuzz::config_defaults().into(),
            key.into(),
            b"listen = \"[::1]:80\"".to_vec(),
        ]
    },
};

/// Lists of networks.
pub const ACCESS: Target = Target {
    name: "access",
    run: |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            tidegate::fuzz::access(text);
        }
    },
    seeds: |_| ["10.0.0.0/8,::1", "fe80::/10", "127.0.0.1"].map(Vec::from).to_vec(),
};
