//! The fuzz target of the X-Forwarded-For header.

use std::net::IpAddr;

use super::address_list::{AddressSet, MalformedForwardedFor, Network, client_address, group};
use crate::fuzz::Choices;

const SOCKETS: [&str; 4] = ["127.0.0.1", "::ffff:10.1.2.3", "198.51.100.1", "2001:db8::1"];

pub(crate) fn forwarded_seeds() -> Vec<Vec<u8>> {
    let values = [
        "198.51.100.1",
        "1.1.1.1, 198.51.100.1\n10.0.0.9",
        "198.51.100.1:5678, [2001:db8::1]:5678, 2001:db8::1, [2001:db8::1]",
        "garbage, 198.51.100.1,\t10.0.0.2",
        "198.51.100.1, unknown, \"1.1.1.1\", _hidden,",
        "::ffff:192.0.2.7, fe80::1%eth0",
        "",
    ];
    (0..).zip(values).map(|(number, value)| [&[number][..], value.as_bytes()].concat()).collect()
}

/// The values of several headers name a client or are malformed. Nothing is believed of who is not trusted: what stands
/// to the left of the first untrusted address changes nothing.
pub(crate) fn forwarded(bytes: &[u8]) {
    let trusted: AddressSet =
        ["127.0.0.1", "10.0.0.0/8", "::1"].iter().map(|text| text.parse::<Network>().expect("a prefix")).collect();
    let mut choices = Choices(bytes);
    let socket: IpAddr = SOCKETS[choices.below(SOCKETS.len())].parse().expect("an address");
    let values: Vec<&[u8]> = choices.0.split(|byte| *byte == b'\n').collect();
    let of = |values: &[&[u8]]| client_address(socket, values.iter().copied(), &trusted);
    let client = of(&values);
    let is_trusted = |address: IpAddr| trusted.contains(address);
    let Ok(address) = client else {
        return assert!(is_trusted(socket), "only trusted proxies are read");
    };
    assert_eq!(address, address.to_canonical());
    for (v4_bits, v6_bits) in [(0, 0), (24, 64), (32, 128)] {
        let network = group(address, v4_bits, v6_bits);
        assert_eq!(group(network, v4_bits, v6_bits), network);
    }
    if !is_trusted(socket) {
        return assert_eq!(address, socket.to_canonical());
    }
    let behind = [&[b"garbage, 1.1.1.1".as_slice()][..], &values].concat();
    if !is_trusted(address) {
        assert_eq!(of(&behind), client, "the client's own words");
        let joined = [b"garbage,", values[0]].concat();
        assert_eq!(of(&[&[joined.as_slice()][..], &values[1..]].concat()), client, "the client's own words");
    } else {
        assert_eq!(of(&behind), Ok(IpAddr::from([1, 1, 1, 1])), "another hop");
    }
    let nearer = [&values[..], &[b"10.9.9.9".as_slice()]].concat();
    assert_eq!(of(&nearer), client, "one more trusted proxy");
    let broken = [&values[..], &[b"unknown".as_slice()]].concat();
    assert_eq!(of(&broken), Err(MalformedForwardedFor));
}
