//! The header of the PROXY protocol, versions 1 and 2, which a proxy sends before anything else on a connection
//! (haproxy's `doc/proxy-protocol.txt`).
//!
//! Pure: bytes in, a value out. It never guesses: what is no header by the letter is malformed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, with its line end (§2.1).
const V1_BYTES: usize = 107;

/// What version 1 begins with.
const V1_START: &[u8] = b"PROXY ";

/// What version 2 begins with (§2.2). No request in HTTP begins so.
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature of version 2, the version and command, the family, and the length of the rest.
const V2_HEAD: usize = 16;

/// Bytes of addresses and TLVs that are taken. The largest address takes 216; load balancers add some hundred of TLVs,
/// more with a client certificate.
const V2_REST: usize = 4096;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// They may become a header.
    Partial,
    /// They begin with a header of `length` bytes.
    Whole {
        /// Its length.
        length: usize,
        /// The client; `None` if the connection speaks for itself, as that of a health check does.
        client: Option<SocketAddr>,
    },
}

/// The bytes are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Reads the header at the start of `bytes`.
///
/// # Errors
/// When no bytes that follow could make it a header.
pub fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins(V2_START) {
        version_2(bytes)
    } else if begins(V1_START) {
        version_1(bytes)
    } else {
        Err(Malformed)
    }
}

fn version_1(bytes: &[u8]) -> Result<Header, Malformed> {
    let longest = &bytes[..bytes.len().min(V1_BYTES)];
    let Some(end) = longest.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES { Ok(Header::Partial) } else { Err(Malformed) };
    };
    let length = end + 2;
    let line = std::str::from_utf8(&bytes[V1_START.len()..end]).map_err(|_| Malformed)?;
    let mut words = line.split(' ');
    let client = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => return Ok(Header::Whole { length, client: None }),
        Some("TCP4") => addresses::<Ipv4Addr>(words)?,
        Some("TCP6") => addresses::<Ipv6Addr>(words)?,
        _ => return Err(Malformed),
    };
    Ok(Header::Whole { length, client: Some(client) })
}

/// Reads the addresses and ports of both ends; returns the source.
fn addresses<'a, A: std::str::FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<SocketAddr, Malformed> {
    let mut next = || words.next().ok_or(Malformed);
    let address = |word: &str| word.parse().map(A::into).map_err(|_| Malformed);
    let (source, _) = (address(next()?)?, address(next()?)?);
    let (source_port, _) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err(Malformed);
    }
    Ok(SocketAddr::new(source.to_canonical(), source_port))
}

fn port(word: &str) -> Result<u16, Malformed> {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_number).ok_or(Malformed)
}

fn version_2(bytes: &[u8]) -> Result<Header, Malformed> {
    let Some((head, rest)) = bytes.split_at_checked(V2_HEAD) else { return Ok(Header::Partial) };
    let is_local = match head[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed),
    };
    let rest_length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if rest_length > V2_REST {
        return Err(Malformed);
    }
    // A local connection has no addresses, whatever its family says.
    let (family, address_bytes) = match head[13] {
        _ if is_local => (Family::None, 0),
        0x00 => (Family::None, 0),
        0x11 => (Family::V4, 12),
        0x21 => (Family::V6, 36),
        // A stream of AF_UNIX has no address that the relay could go by. Datagrams cannot come over this socket.
        0x31 => (Family::None, 216),
        _ => return Err(Malformed),
    };
    if rest_length < address_bytes {
        return Err(Malformed);
    }
    // What follows the addresses are TLVs, which the relay does not use.
    let Some(rest) = rest.get(..rest_length) else { return Ok(Header::Partial) };
    Ok(Header::Whole { length: V2_HEAD + rest_length, client: family.source(rest) })
}

/// Which addresses a header of version 2 has.
#[derive(Clone, Copy)]
enum Family {
    None,
    V4,
    V6,
}

impl Family {
    /// The source: both addresses come first, then both ports.
    fn source(self, rest: &[u8]) -> Option<SocketAddr> {
        let (address, port): (IpAddr, &[u8]) = match self {
            Self::None => return None,
            Self::V4 => (rest.first_chunk::<4>().copied()?.into(), rest.get(8..10)?),
            Self::V6 => (rest.first_chunk::<16>().copied()?.into(), rest.get(32..34)?),
        };
        Some(SocketAddr::new(address.to_canonical(), u16::from_be_bytes(port.try_into().ok()?)))
    }
}

/// The fuzz target.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    use super::*;

    /// A header of version 2 with this command, family and rest.
    pub fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("the rest of a test is short").to_be_bytes();
        [V2_START, &[command, family], &length, rest].concat()
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let addresses = [192, 0, 2, 7, 127, 0, 0, 1, 0xd4, 0x31, 0x1e, 0x61];
        let six = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 28], &[0xd4, 0x31, 0x1e, 0x61]].concat();
        let tlv = [addresses.as_slice(), &[0x04, 0, 3, 1, 2, 3], &[0xea, 0, 2, 1, 9]].concat();
        let mut seeds = vec![
            b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 7777\r\nGET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::7 ::1 54321 7777\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\nGET".to_vec(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            version_2(0x20, 0, &[]),
            version_2(0x21, 0x11, &addresses),
            version_2(0x21, 0x11, &tlv),
            version_2(0x21, 0x21, &six),
            version_2(0x21, 0x31, &[b'/'; 216]),
            version_2(0x21, 0x12, &addresses),
            version_2(0x21, 0x11, &[0; 4_000]),
        ];
        seeds.push([seeds[6].as_slice(), b"GET / HTTP/1.1\r\n\r\n"].concat());
        seeds
    }

    /// However the bytes arrive, they mean the same: a header is partial until its last byte and does not depend on
    /// what follows, and what is malformed stays so.
    pub(crate) fn check(bytes: &[u8]) {
        let end = bytes.len().min(V2_HEAD + V2_REST + 1);
        let parsed: Vec<_> = (0..=end).map(|count| parse(&bytes[..count])).collect();
        let first = parsed.iter().position(|parsed| *parsed != Ok(Header::Partial));
        let Some(first) = first else { return assert!(end < V2_HEAD + V2_REST, "nothing is partial for ever") };
        assert!(parsed[first..].iter().all(|later| *later == parsed[first]), "{parsed:?}");
        if let Ok(Header::Whole { length, client }) = parsed[first] {
            assert_eq!(length, first);
            assert!(client.is_none_or(|client| client.ip() == client.ip().to_canonical()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(bytes: &[u8]) -> Result<Option<String>, Malformed> {
        match parse(bytes)? {
            Header::Whole { client, .. } => Ok(client.map(|client| client.to_string())),
            Header::Partial => panic!("partial: {bytes:?}"),
        }
    }

    #[test]
    fn version_1_names_the_client_by_the_letter() {
        let from = |text: &str| client(text.as_bytes());
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(from("PROXY TCP4 192.0.2.7 127.0.0.1 54321 7777\r\nGET"), some("192.0.2.7:54321"));
        assert_eq!(from("PROXY TCP6 2001:db8::7 ::1 1 65535\r\n"), some("[2001:db8::7]:1"));
        assert_eq!(from("PROXY TCP6 ::ffff:192.0.2.7 ::1 0 0\r\n"), some("192.0.2.7:0"));
        assert_eq!(from("PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(from("PROXY UNKNOWN whatever this is\r\n"), Ok(None));
        for wrong in [
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.7 127.0.0.1 54321\r\n",
            "PROXY TCP4 192.0.2.7 127.0.0.1 54321 7777 \r\n",
            "PROXY TCP4  192.0.2.7 127.0.0.1 54321 7777\r\n",
            "PROXY TCP4 192.0.2.07 127.0.0.1 54321 7777\r\n",
            "PROXY TCP4 2001:db8::7 ::1 54321 7777\r\n",
            "PROXY TCP6 192.0.2.7 127.0.0.1 54321 7777\r\n",
            "PROXY TCP4 192.0.2.7 127.0.0.1 65536 7777\r\n",
            "PROXY TCP4 192.0.2.7 127.0.0.1 +1 7777\r\n",
            "PROXY TCP4 192.0.2.7 127.0.0.1 01 7777\r\n",
            "PROXY TCP4 192.0.2.7 127.0.0.1 1\n2 7777\r\n",
            "PROXY UDP4 192.0.2.7 127.0.0.1 54321 7777\r\n",
            "PROXY unknown\r\n",
            "proxy UNKNOWN\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            " PROXY UNKNOWN\r\n",
        ] {
            assert_eq!(from(wrong), Err(Malformed), "{wrong}");
        }
        let long = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert_eq!([from(&long(107)), from(&long(108))], [Ok(None), Err(Malformed)]);
    }

    #[test]
    fn version_2_names_the_client_and_skips_what_else_it_says() {
        let of = |command, family, rest: &[u8]| client(&fuzz::version_2(command, family, rest));
        let four = [192, 0, 2, 7, 127, 0, 0, 1, 0xd4, 0x31, 0x1e, 0x61];
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(of(0x21, 0x11, &four), some("192.0.2.7:54321"));
        assert_eq!(of(0x21, 0x11, &[&four[..], &[0xea, 0xff, 0xff, 1]].concat()), some("192.0.2.7:54321"), "TLVs");
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 28], &[0, 80, 0, 81]].concat();
        assert_eq!(of(0x21, 0x21, &six), some("[2001:db8::]:80"));
        for (command, family, rest) in
            [(0x20, 0x00, 0), (0x20, 0x11, 0), (0x20, 0xff, 9), (0x21, 0x00, 50), (0x21, 0x31, 216)]
        {
            assert_eq!(of(command, family, &vec![1; rest]), Ok(None), "{command:x} {family:x}");
        }
        for (command, family, rest) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x2f, 0x11, 12),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x21, 0x31, 215),
            (0x21, 0x12, 12),
            (0x21, 0x22, 36),
            (0x21, 0x41, 36),
            (0x21, 0x13, 12),
            (0x21, 0x11, 4097),
        ] {
            assert_eq!(of(command, family, &vec![1; rest]), Err(Malformed), "{command:x} {family:x} {rest}");
        }
    }
}
