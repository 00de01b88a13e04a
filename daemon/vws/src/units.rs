//! Sizes, durations and times, in and out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads an amount of memory in MiB: `512`, `512M`, `512MiB`, `2G`, `1T`.
pub(crate) fn memory_mib(text: &str) -> Result<u64, String> {
    size(text, 1)
}

/// Reads the size of a disk in GiB: `10`, `10G`, `10GiB`, `2T`, `2048M`.
pub(crate) fn disk_gib(text: &str) -> Result<u64, String> {
    let mib = size(text, 1024)?;
    if mib.is_multiple_of(1024) { Ok(mib / 1024) } else { Err("a disk is sized in whole GiB, for instance 10G".to_owned()) }
}

/// A size in MiB; a bare number counts in `unit_mib`.
fn size(text: &str, unit_mib: u64) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" => unit_mib,
        "M" | "m" | "Mi" | "MiB" => 1,
        "G" | "g" | "Gi" | "GiB" => 1024,
        "T" | "t" | "Ti" | "TiB" => 1024 * 1024,
        _ => return Err(format!("the unit `{unit}` is not known; write M, G or T (powers of 1024: 512M, 2G, 2GiB)")),
    };
    let number: u64 = number.parse().map_err(|_| "not a size; write for instance 512M or 2G".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "more than can be counted; write a smaller size".to_owned())
}

/// Reads a duration in words as whole seconds: `2h`, `90m`, `1h 30m`; `none` is 0.
pub(crate) fn lease_seconds(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let seconds = duration(text)?.as_secs();
    if seconds == 0 { Err("a lease lasts at least a second; `none` asks for one without end".to_owned()) } else { Ok(seconds) }
}

/// Reads a duration in words: `30s`, `10m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for instance 30s, 10m, 2h or 1d"))
}

/// Reads an instant as microseconds since the epoch: a local date or time, or so long before now.
pub(crate) fn instant(text: &str) -> Result<u64, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now().saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX)));
    }
    let local: jiff::civil::DateTime =
        text.parse().map_err(|_| "not a time; write for instance 2027-01-31, 2027-01-31T08:00 or 30d".to_owned())?;
    let instant = local.to_zoned(jiff::tz::TimeZone::system()).map_err(|error| error.to_string())?;
    u64::try_from(instant.timestamp().as_microsecond()).map_err(|_| "is before 1970; write a later time".to_owned())
}

/// Now, in microseconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// What is left until an instant: `9m`, `2h 5m`, `3d 4h`; `ended` when it has passed, `-` for an instant of 0.
pub(crate) fn left(until: u64, now: u64) -> String {
    if until == 0 {
        return "-".to_owned();
    }
    if until <= now {
        return "ended".to_owned();
    }
    span((until - now) / 1_000_000)
}

/// Seconds in at most two units.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// An instant in local time; `-` for 0.
pub(crate) fn local(micros: u64) -> String {
    if micros == 0 {
        return "-".to_owned();
    }
    i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok()).map_or_else(
        || micros.to_string(),
        |instant| instant.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// An amount of MiB in the largest unit that is exact.
pub(crate) fn mib(mib: u64) -> String {
    if mib > 0 && mib.is_multiple_of(1024) { format!("{}G", mib / 1024) } else { format!("{mib}M") }
}

/// A number of bytes with one decimal.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut scaled = bytes.saturating_mul(10);
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if scaled < 10_240 {
            break;
        }
        scaled /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{}.{} {unit}", scaled / 10, scaled % 10) }
}

#[cfg(test)]
mod tests {
    use super::{bytes, disk_gib, lease_seconds, left, memory_mib, mib, span};

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(memory_mib("512"), Ok(512));
        assert_eq!(memory_mib("512M"), Ok(512));
        assert_eq!(memory_mib("2GiB"), Ok(2048));
        assert_eq!(memory_mib("1T"), Ok(1024 * 1024));
        assert_eq!(memory_mib("9223372036854775808"), Ok(1 << 63));
        assert_eq!(disk_gib("10"), Ok(10));
        assert_eq!(disk_gib("2048M"), Ok(2));
        for bad in ["", "M", "-1", "1.5G", "2GB", "2K", "99999999999999999999", "18446744073709551615T"] {
            assert!(memory_mib(bad).is_err(), "{bad}");
        }
        assert!(disk_gib("100M").is_err());
    }

    #[test]
    fn leases_are_words() {
        assert_eq!(lease_seconds("2h"), Ok(7200));
        assert_eq!(lease_seconds("1h 30m"), Ok(5400));
        assert_eq!(lease_seconds("none"), Ok(0));
        assert!(lease_seconds("0s").is_err());
        assert!(lease_seconds("soon").is_err());
    }

    #[test]
    fn what_is_left_is_short() {
        assert_eq!(left(0, 5), "-");
        assert_eq!(left(5, 5), "ended");
        assert_eq!(left(600_000_000, 30_000_000), "9m");
        assert_eq!(span(59), "59s");
        assert_eq!(span(7500), "2h 5m");
        assert_eq!(span(7200), "2h");
        assert_eq!(span(100 * 3600), "4d 4h");
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!(mib(2048), "2G");
        assert_eq!(mib(512), "512M");
        assert_eq!(mib(0), "0M");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(17 * 1024 * 1024), "17.0 MiB");
        assert!(bytes(u64::MAX).ends_with("TiB"));
    }
}
