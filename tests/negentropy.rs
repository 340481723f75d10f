//! Negentropy (NIP-77) over the socket, with another implementation of the protocol as the client.

mod support;

mod negentropy {
    mod bounds;
    mod initiator;
    mod messages;
    mod sync;
}
