//! The frames of the tests' relay.
//!
//! It must never share code with the tool's own.

use std::io::Read;
use std::net::TcpStream;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use serde_json::Value;

/// One masked, unfragmented frame, compressed or not; `None` at the end or for anything but text.
pub fn read_message(stream: &mut TcpStream) -> Option<Value> {
    let mut head = [0u8; 2];
    stream.read_exact(&mut head).ok()?;
    let len = match head[1] & 0x7F {
        126 => {
            let mut len = [0u8; 2];
            stream.read_exact(&mut len).ok()?;
            usize::from(u16::from_be_bytes(len))
        }
        127 => {
            let mut len = [0u8; 8];
            stream.read_exact(&mut len).ok()?;
            u64::from_be_bytes(len) as usize
        }
        len => usize::from(len),
    };
    let mut mask = [0u8; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut payload = vec![0u8; len];
    stream.read_exact(&mut payload).ok()?;
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    if head[0] == 0xC1 {
        payload.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
        let mut text = Vec::with_capacity(1 << 20);
        Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync).ok()?;
        payload = text;
    } else if head[0] != 0x81 {
        return None;
    }
    serde_json::from_slice(&payload).ok()
}

/// An unmasked text frame, compressed with this stream if there is one.
pub fn frame(message: &Value, deflate: Option<&mut Compress>) -> Vec<u8> {
    let mut text = message.to_string().into_bytes();
    let mut frame = vec![0x81];
    if let Some(stream) = deflate {
        let mut out = Vec::with_capacity(text.len() + 1024);
        stream.compress_vec(&text, &mut out, FlushCompress::Sync).expect("room for all");
        out.truncate(out.len() - 4);
        (frame, text) = (vec![0xC1], out);
    }
    match text.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&text);
    frame
}
