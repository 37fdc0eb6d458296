//! Which addresses an endpoint may have. Who can name an endpoint must not reach what only this
//! machine or its network can: so names are resolved here, and a connection is made to no address
//! that was not looked at. Nothing is sent here.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::OnceLock,
};

use ipnet::IpNet;
use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// What is not a place on the public internet, from IANA's registries of special-purpose addresses.
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// Of IPv6 only this is given out at all, but for what follows.
const PUBLIC_V6: &str = "2000::/3";
const NOT_PUBLIC_V6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

/// What stands for an IPv4 address, in its last four bytes.
const TRANSLATED: &str = "64:ff9b::/96";

/// Whether anybody may be sent to `address`.
pub(super) fn is_public(address: IpAddr) -> bool {
    let nets = nets();
    match address {
        IpAddr::V4(_) => !nets.not_public.iter().any(|net| net.contains(&address)),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                let barred = nets.not_public_v6.iter().any(|net| net.contains(&address));
                nets.public_v6.contains(&address) && !barred
            }
        },
    }
}

/// The IPv4 address that `address` leads to.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let translated = nets().translated.contains(&IpAddr::V6(address));
    address.to_ipv4_mapped().or_else(|| translated.then(|| Ipv4Addr::new(a, b, c, d)))
}

struct Nets {
    not_public: Vec<IpNet>,
    public_v6: IpNet,
    not_public_v6: Vec<IpNet>,
    translated: IpNet,
}

fn nets() -> &'static Nets {
    static NETS: OnceLock<Nets> = OnceLock::new();
    NETS.get_or_init(|| {
        let net = |text: &str| text.parse().unwrap_or_else(|_| unreachable!("{text}"));
        Nets {
            not_public: NOT_PUBLIC.iter().map(|text| net(text)).collect(),
            public_v6: net(PUBLIC_V6),
            not_public_v6: NOT_PUBLIC_V6.iter().map(|text| net(text)).collect(),
            translated: net(TRANSLATED),
        }
    })
}

/// Resolves names as the system does, and lets only public addresses through.
#[derive(Debug, Default)]
pub(super) struct OnlyPublic {
    inner: DefaultResolver,
}

impl Resolver for OnlyPublic {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut public = self.empty();
        for address in found.iter().filter(|address| is_public(address.ip())) {
            public.push(*address);
        }
        if public.is_empty() {
            let found: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
            let (host, found) = (uri.host().unwrap_or_default(), found.join(", "));
            let what = format!("{host} leads to {found}, which is not on the public internet");
            return Err(ureq::Error::Other(what.into()));
        }
        Ok(public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_we_can_reach_is_not_public() {
        for barred in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2001::1",
            "::127.0.0.1",
            "fec0::1",
        ] {
            assert!(!is_public(barred.parse().unwrap()), "{barred}");
        }
        for open in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "2606:4700:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2a00:1450::1",
        ] {
            assert!(is_public(open.parse().unwrap()), "{open}");
        }
    }
}
