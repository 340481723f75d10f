//! The handshake over a real loopback socket, with hyper serving and two kinds of client.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::ws::{
    Budget, CloseCode, Fed, Flow, Flushed, Frame, Incoming as Received, OpCode, OutboxOptions, Reader, ReaderOptions,
    Role, Writer,
};

/// Serves one connection: echoes text, answers pings, echoes the close.
async fn serve(listener: TcpListener) {
    let (stream, _) = listener.accept().await.expect("a client comes");
    let service = service_fn(|mut request: Request<Incoming>| async move {
        Ok::<_, std::convert::Infallible>(match accept(&mut request, true) {
            Ok((response, upgrading)) => {
                tokio::spawn(async move {
                    echo(upgrading.socket().await.expect("the response is sent")).await;
                });
                response
            }
            Err(refusal) => refusal.response(),
        })
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error here is the client's hanging up, which the test sees at its own end.
    let _ = connection.with_upgrades().await;
}

async fn echo(upgraded: Upgraded) {
    let Upgraded { mut stream, leftover, deflate } = upgraded;
    let budget = Arc::new(Budget::new(1 << 20));
    let (outbox, mut writer) = Writer::with_outbox(OutboxOptions::default(), budget, None);
    let mut reader = Reader::new(ReaderOptions { max_message_bytes: 1 << 16, deflate, role: Role::Server });
    let mut sink = |received: Received<'_>| {
        match received {
            Received::Text(text) => drop(outbox.push_reply(Frame::text(text))),
            Received::Ping(payload) => {
                outbox.push_reply(Frame::control(OpCode::Pong, payload));
            }
            Received::Pong(_) => {}
            Received::Close(code, reason) => {
                outbox.close(code.map_or(CloseCode::Normal, CloseCode::from), reason);
            }
        }
        Flow::Continue
    };
    let mut input = leftover.to_vec();
    loop {
        let fed = reader.feed(&mut input, &mut sink).expect("the client is correct");
        let flushed = poll_fn(|cx| writer.poll_flush(cx, Pin::new(&mut stream), usize::MAX));
        if flushed.await.expect("the client reads") == Flushed::Closed {
            assert_eq!(fed, Fed::Ended);
            stream.shutdown().await.expect("still open");
            return;
        }
        input.resize(4096, 0);
        let bytes = stream.read(&mut input).await.expect("the client closes properly");
        assert_ne!(bytes, 0, "the client closes properly");
        input.truncate(bytes);
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

#[tokio::test]
async fn another_implementation_s_client_talks_to_us() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(serve(listener));
    let url = format!("ws://{address}/");
    let (mut client, _) = tokio_tungstenite::connect_async(url).await.expect("upgraded");
    let long = "é".repeat(20_000);
    for text in ["", "hello", long.as_str()] {
        client.send(Message::text(text)).await.expect("sent");
        let answer = client.next().await.expect("open").expect("legal");
        assert_eq!(answer, Message::text(text));
    }
    client.send(Message::Ping("are you there".into())).await.expect("sent");
    let pong = client.next().await.expect("open").expect("legal");
    assert_eq!(pong, Message::Pong("are you there".into()));
    client.close(None).await.expect("sent");
    let close = client.next().await.expect("open").expect("legal");
    assert!(close.is_close());
    assert!(client.next().await.is_none(), "the server ends the connection");
    server.await.expect("served");
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: relay\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n";

/// Sends `request` and gives back everything until the server ends the connection, as text up
/// to the empty line and as bytes after it.
async fn raw(request: &[u8]) -> (String, Vec<u8>) {
    let (listener, address) = listener().await;
    let server = tokio::spawn(serve(listener));
    let mut stream = TcpStream::connect(address).await.expect("listening");
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("ended by the server");
    server.await.expect("served");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = answer.split_off(end.expect("a whole head") + 4);
    (String::from_utf8(answer).expect("text").to_ascii_lowercase(), body)
}

#[tokio::test]
async fn frames_sent_along_with_the_request_are_not_lost() {
    let mut request =
        format!("{REQUEST}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n").into_bytes();
    // "Hello" compressed (RFC 7692 §7.2.3.1) under the mask 0, then a close.
    request.extend([0xc1, 0x87, 0, 0, 0, 0, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    request.extend([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]);
    let (head, body) = raw(&request).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    // The accept value for this key is the example of RFC 6455 §1.3.
    for line in [
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
         client_no_context_takeover\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let expected = [&[0x81, 5][..], b"Hello", &[0x88, 2, 0x03, 0xe9]].concat();
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_improper_request_is_refused_with_its_status() {
    let cases = [
        (("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), "426"),
        (("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: short"), "400"),
        (("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), "400"),
        (("Upgrade: websocket", "Upgrade: h2c"), "400"),
        (("keep-alive, Upgrade", "keep-alive"), "400"),
        (("GET / ", "POST / "), "400"),
    ];
    for ((from, to), status) in cases {
        let request = REQUEST.replace(from, to) + "Connection: close\r\n\r\n";
        let (head, _) = raw(request.as_bytes()).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{to}: {head}");
        let names_version = head.contains("sec-websocket-version: 13");
        assert_eq!(names_version, status == "426", "{head}");
    }
}

#[tokio::test]
async fn a_socket_still_full_is_pending_and_then_goes_on() {
    let (listener, address) = listener().await;
    let client = TcpStream::connect(address).await.expect("listening");
    let (mut server, _) = listener.accept().await.expect("a client came");
    let budget = Arc::new(Budget::new(u64::MAX));
    let (outbox, mut writer) = Writer::with_outbox(OutboxOptions::default(), budget, None);
    let total = 32 << 20;
    outbox.push_reply(Frame::encoded(vec![b'x'; total]));
    let first = poll_fn(|cx| Poll::Ready(writer.poll_flush(cx, Pin::new(&mut server), usize::MAX))).await;
    assert!(first.is_pending(), "no socket buffer is that large");
    let reading = tokio::spawn(async move {
        let mut client = client;
        let mut seen = 0;
        let mut buffer = vec![0; 1 << 20];
        while seen < total {
            seen += client.read(&mut buffer).await.expect("open");
        }
        seen
    });
    let flushed = poll_fn(|cx| writer.poll_flush(cx, Pin::new(&mut server), usize::MAX)).await;
    assert_eq!(flushed.expect("open"), Flushed::Idle);
    assert_eq!(reading.await.expect("read all"), total);
    assert_eq!(outbox.unsent(), (0, 0));
}
