//! How long a build waits for caches that are slower than its compiler.

use std::fmt;
use std::time::Duration;

use super::SettingsError;

/// The longest time that can be written as a number: a day.
const LONGEST: f64 = 86_400.0;

/// How long fetching may take beyond the time that it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// So long.
    Time(Duration),
    /// As long as the caches move.
    Unlimited,
}

impl Patience {
    /// Parses `2.5`, in seconds, or `unlimited`.
    pub(crate) fn parse(text: &str) -> Result<Self, SettingsError> {
        let wrong = || SettingsError::Patience { text: text.to_owned() };
        match text.trim() {
            "unlimited" => Ok(Self::Unlimited),
            number => {
                let seconds: f64 = number.parse().map_err(|_| wrong())?;
                let time = (0.0..=LONGEST).contains(&seconds).then(|| Duration::from_secs_f64(seconds));
                time.map(Self::Time).ok_or_else(wrong)
            }
        }
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(formatter, "{} s", time.as_secs_f64()),
            Self::Unlimited => formatter.write_str("unlimited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patience_is_a_number_of_seconds_or_has_no_end() {
        assert_eq!(Patience::parse("2.5").unwrap(), Patience::Time(Duration::from_millis(2500)));
        assert_eq!(Patience::parse(" 0 ").unwrap(), Patience::Time(Duration::ZERO));
        assert_eq!(Patience::parse("unlimited").unwrap(), Patience::Unlimited);
        for wrong in ["", "-1", "NaN", "inf", "1e9", "3s", "for ever"] {
            assert!(Patience::parse(wrong).is_err(), "{wrong}");
        }
    }
}
