//! Readers and writers of one table in every order, see `server/interleavings`.

mod newest;
