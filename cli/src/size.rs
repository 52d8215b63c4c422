//! Sizes on the command line.

/// Parses `1073741824`, `1G`, `512M` or `64KiB`; the letters are powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => {
            return Err(format!(
                "{unit:?} is no unit; expected is a number such as 65536, 64K or 1G"
            ));
        }
    };
    let number: u64 =
        digits.parse().map_err(|_| "expected is a number such as 65536, 64K or 1G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// A number of bytes for the eye, in powers of 1000.
pub fn human(bytes: u64) -> String {
    let power = (bytes.max(1).ilog10() / 3).min(4);
    let unit = ["B", "kB", "MB", "GB", "TB"][power as usize];
    match power {
        0 => format!("{bytes}{unit}"),
        _ => format!("{:.2}{unit}", bytes as f64 / 1000f64.powi(power as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(parse("7"), Ok(7));
        assert_eq!(parse("64K"), Ok(65_536));
        assert_eq!(parse("1 gib"), Ok(1 << 30));
        for bad in ["", "K", "1.5G", "-1", "1X", "99999999999T"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
