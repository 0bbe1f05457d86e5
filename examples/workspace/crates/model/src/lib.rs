//! Ports, their tidal constants, and the height of the water.

use serde::{Deserialize, Serialize};
use tides_derive::Describe;

include!(concat!(env!("OUT_DIR"), "/ports.rs"));

/// The level that heights are given above, as the build was told.
pub const DATUM: &str = env!("TIDES_DATUM_NAME");

/// What can go wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModelError {
    /// The port isn't in the table.
    #[error("no port is called {0}")]
    UnknownPort(String),
}

/// A port, with the constants of its main lunar tide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// Half of the tidal range, in metres.
    pub amplitude: f64,
    /// The phase, in degrees.
    pub phase: f64,
    /// The mean level, in metres above the datum.
    pub mean: f64,
}

/// The water at one port at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Describe)]
pub struct Prediction {
    /// The port's name.
    pub port: String,
    /// Hours since the start.
    pub hours: f64,
    /// Metres above the datum.
    pub height: f64,
}

impl Port {
    /// Finds a port by name.
    pub fn find(name: &str) -> Result<&'static Port, ModelError> {
        PORTS
            .iter()
            .find(|port| port.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| ModelError::UnknownPort(name.to_owned()))
    }

    /// The water `hours` after the start.
    pub fn at(&self, hours: f64) -> Prediction {
        let height = self.mean + tides_harmonic_sys::height(self.amplitude, self.phase, hours);
        Prediction { port: self.name.to_owned(), hours, height }
    }

    /// The water at each of the given moments.
    pub fn at_each(&self, hours: &[f64]) -> Vec<Prediction> {
        #[cfg(feature = "parallel")]
        {
            use rayon::prelude::*;
            hours.par_iter().map(|hours| self.at(*hours)).collect()
        }
        #[cfg(not(feature = "parallel"))]
        {
            hours.iter().map(|hours| self.at(*hours)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_any_spelling() {
        assert_eq!(Port::find("bREST").unwrap().name, "Brest");
        assert_eq!(Port::find("Atlantis"), Err(ModelError::UnknownPort("Atlantis".to_owned())));
    }

    #[test]
    fn a_prediction_survives_json() {
        let prediction = Port::find("Dover").unwrap().at(3.0);
        let json = serde_json::to_string(&prediction).unwrap();
        assert_eq!(serde_json::from_str::<Prediction>(&json).unwrap(), prediction);
    }

    #[test]
    fn the_derive_names_the_fields() {
        assert_eq!(Prediction::FIELDS, ["port", "hours", "height"]);
    }
}
