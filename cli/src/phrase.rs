//! Numbers in sentences.

use crate::size::human;

/// `1 tensor`, `2 tensors`.
pub fn counted(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// `180808 bytes (180.81 kB)`; small numbers alone.
pub fn bytes(n: u64) -> String {
    match n {
        0..1000 => counted(n as usize, "byte"),
        _ => format!("{n} bytes ({})", human(n)),
    }
}

/// `180808 -> 45201 bytes (180.81 kB -> 45.20 kB)`.
pub fn change(from: u64, to: u64) -> String {
    let all = format!("{from} -> {to} bytes");
    if from.max(to) < 1000 { all } else { format!("{all} ({} -> {})", human(from), human(to)) }
}

/// A text, quoted; a long one is cut.
pub fn brief(value: &str) -> String {
    const LONGEST: usize = 200;
    match value.char_indices().nth(LONGEST) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}... ({})", &value[..end], counted(value.len(), "byte")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_large_sizes_have_units() {
        assert_eq!(counted(1, "tensor"), "1 tensor");
        assert_eq!(counted(0, "tensor"), "0 tensors");
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(180_808), "180808 bytes (180.81kB)");
        assert_eq!(change(999, 10), "999 -> 10 bytes");
        assert_eq!(change(2_000_000, 10), "2000000 -> 10 bytes (2.00MB -> 10B)");
    }
}
