//! Elements in pieces, so that no tensor has to fit into memory.

use std::io::{self, ErrorKind, Read};

/// Bytes of a piece; whole elements of every type, those of 6 bits among them.
pub const PIECE: usize = 3 << 18;

/// Reads until the piece is full or there is no more; returns how much of it is filled.
pub fn fill(elements: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < piece.len() {
        match elements.read(&mut piece[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}
