//! Network addresses: sets of prefixes, and the address of a client behind a proxy.
//!
//! `X-Forwarded-For` is believed only if the peer of the socket is a trusted proxy, so an empty list of proxies trusts
//! nobody.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hashbrown::HashSet;
use ipnet::IpNet;
use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::sets::from_text;

/// A string that is not an address or prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address such as 192.0.2.7 nor a prefix such as 192.0.2.0/24 or 2001:db8::/32")]
pub struct AddressError(String);

/// One address or prefix. IPv4-mapped IPv6 addresses and prefixes count as those of IPv4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Network(IpNet);

impl Network {
    /// The address, or the first of the prefix.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// Whether `address` is it, or is in the prefix.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// A single address is written without its prefix length.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl FromStr for Network {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.into());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let net: IpNet = text.parse().map_err(|_| wrong())?;
        Ok(Self(canonical(net.trunc())))
    }
}

/// An IPv4-mapped prefix as the IPv4 prefix that it stands for.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(bits)) => IpNet::new(address.into(), bits).expect("128 - 96 bits at most"),
        _ => net,
    }
}

/// A set of addresses and prefixes, written as a list of strings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressSet {
    prefixes: HashSet<IpNet>,
    /// The distinct prefix lengths: a look-up tries each.
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

impl AddressSet {
    /// The loopback addresses.
    #[must_use]
    pub fn local() -> Self {
        let local = ["127.0.0.0/8", "::1/128"].map(|text| text.parse::<Network>().expect("a well-formed prefix"));
        local.into_iter().collect()
    }

    /// Whether one of the prefixes contains the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths.iter().any(|&length| {
            let net = IpNet::new(address, length).map(|net| net.trunc());
            net.is_ok_and(|net| self.prefixes.contains(&net))
        })
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }
}

impl FromIterator<Network> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Network>>(prefixes: I) -> Self {
        let mut set = Self { prefixes: prefixes.into_iter().map(|prefix| prefix.0).collect(), ..Self::default() };
        for net in &set.prefixes {
            let lengths = if net.addr().is_ipv4() { &mut set.v4_lengths } else { &mut set.v6_lengths };
            lengths.push(net.prefix_len());
        }
        for lengths in [&mut set.v4_lengths, &mut set.v6_lengths] {
            lengths.sort_unstable();
            lengths.dedup();
        }
        set
    }
}

impl Serialize for AddressSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut prefixes: Vec<_> = self.prefixes.iter().collect();
        prefixes.sort_unstable();
        serializer.collect_seq(prefixes.into_iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for AddressSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let prefixes: Vec<Written> = Vec::deserialize(deserializer)?;
        Ok(prefixes.into_iter().map(|written| written.0).collect())
    }
}

struct Written(Network);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "an address or a prefix", str::parse).map(Self)
    }
}

/// The network that `address` counts as: an IPv6 customer has at least a whole /64.
///
/// # Panics
/// When a prefix is longer than the addresses of its family; validated settings hold no such prefix.
#[must_use]
pub fn group(address: IpAddr, v4_bits: u8, v6_bits: u8) -> IpAddr {
    let address = address.to_canonical();
    let bits = if address.is_ipv4() { v4_bits } else { v6_bits };
    IpNet::new(address, bits).expect("settings hold prefix lengths of 0 to 32 and 0 to 128").trunc().addr()
}

/// A trusted proxy sent an `X-Forwarded-For` that is not a list of addresses.
///
/// Falling back to the proxy's own address would give the client the proxy's limits, or none if that is exempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("X-Forwarded-For is not a list of addresses")]
pub struct MalformedForwardedFor;

/// The address of the client behind `socket`: the socket's own address if it is not a trusted proxy or sent no header.
///
/// `forwarded` holds the values of all `X-Forwarded-For` headers in order. They are read from right to left, past every
/// trusted proxy: everything to the left of the first untrusted address was written by that untrusted peer.
///
/// # Errors
/// When a trusted proxy wrote something that is not an address, such as `unknown`, nothing, or an address in quotes.
pub fn client_address<'a>(
    socket: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &AddressSet,
) -> Result<IpAddr, MalformedForwardedFor> {
    let mut address = socket.to_canonical();
    for hop in forwarded.rev().flat_map(|value| value.rsplit(|&byte| byte == b',')) {
        if !trusted.contains(address) {
            break;
        }
        address = parse_hop(hop).ok_or(MalformedForwardedFor)?;
    }
    Ok(address)
}

/// Parses an address with or without a port, IPv6 with or without brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> AddressSet {
        texts.iter().map(|text| text.parse::<Network>().expect("a prefix")).collect()
    }

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_prefix_contains_its_addresses_and_no_others() {
        let set = set(&["10.1.2.3/8", "192.0.2.7", "2001:db8::/32", "::1"]);
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("::2", false),
        ] {
            assert_eq!(set.contains(at(address)), inside, "{address}");
        }
        assert!(!AddressSet::default().contains(at("10.0.0.1")));
        for wrong in ["10.0.0.0/33", "10.0.0", "x", "", "::/129", "10.0.0.1/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mapped_prefix_is_the_ipv4_prefix_that_it_stands_for() {
        for (text, written) in [
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.77/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.7/128", "192.0.2.7"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("::/0", "::/0"),
            ("64:ff9b::192.0.2.0/120", "64:ff9b::c000:200/120"),
        ] {
            assert_eq!(text.parse::<Network>().map(|net| net.to_string()), Ok(written.into()), "{text}");
        }
        let set = set(&["::ffff:192.0.2.0/120"]);
        let inside = ["192.0.2.66", "::ffff:192.0.2.66", "192.0.3.1", "2001:db8::1"].map(|text| set.contains(at(text)));
        assert_eq!(inside, [true, true, false, false]);
    }

    #[test]
    fn forwarded_for_is_read_from_the_right_past_trusted_proxies() {
        let trusted = set(&["127.0.0.1", "10.0.0.0/8"]);
        let cases: [(&[&str], Option<&str>); 17] = [
            (&[], Some("127.0.0.1")),
            (&["198.51.100.1"], Some("198.51.100.1")),
            (&["1.1.1.1, 198.51.100.1"], Some("198.51.100.1")),
            (&["1.1.1.1", "198.51.100.1, 10.0.0.9"], Some("198.51.100.1")),
            (&["garbage, 198.51.100.1"], Some("198.51.100.1")),
            (&["198.51.100.1:5678"], Some("198.51.100.1")),
            (&["[2001:db8::1]:5678"], Some("2001:db8::1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["10.0.0.1,10.0.0.2"], Some("10.0.0.1")),
            (&["198.51.100.1, unknown"], None),
            (&["unknown, 10.0.0.2"], None),
            (&["198.51.100.1,"], None),
            (&[""], None),
            (&["\"198.51.100.1\""], None),
            (&["\"[2001:db8::1]:5678\""], None),
            (&["_hidden"], None),
        ];
        for (values, address) in cases {
            let bytes = values.iter().map(|value| value.as_bytes());
            let expected = address.map(at).ok_or(MalformedForwardedFor);
            assert_eq!(client_address(at("::ffff:127.0.0.1"), bytes, &trusted), expected, "{values:?}");
        }
    }

    #[test]
    fn a_stranger_or_an_empty_list_of_proxies_is_never_believed() {
        let header = || [b"1.1.1.1".as_slice()].into_iter();
        assert_eq!(client_address(at("198.51.100.1"), header(), &set(&["127.0.0.1"])), Ok(at("198.51.100.1")));
        assert_eq!(client_address(at("127.0.0.1"), header(), &AddressSet::default()), Ok(at("127.0.0.1")));
    }

    #[test]
    fn one_ipv6_customer_is_one_address() {
        assert_eq!(group(at("2001:db8:1:2:3:4:5:6"), 32, 64), at("2001:db8:1:2::"));
        assert_eq!(group(at("::ffff:192.0.2.7"), 32, 64), at("192.0.2.7"));
        assert_eq!(group(at("192.0.2.7"), 24, 64), at("192.0.2.0"));
    }
}
