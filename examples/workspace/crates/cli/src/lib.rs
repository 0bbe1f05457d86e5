//! What the two binaries share.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::io::Write;
use tides_model::{Port, Prediction};

/// What a table shows, as `tides-export` reads it from a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The port's name.
    pub port: String,
    /// How many hours, from the start.
    pub hours: u32,
}

impl Request {
    /// Reads a request from TOML.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).context("the request isn't valid")
    }

    /// One prediction for every hour.
    pub fn table(&self) -> Result<Vec<Prediction>> {
        let hours: Vec<f64> = (0..self.hours).map(f64::from).collect();
        Ok(Port::find(&self.port)?.at_each(&hours))
    }
}

/// Writes a table as gzipped JSON.
pub fn write_compressed(table: &[Prediction], to: impl Write) -> Result<()> {
    let mut gzip = flate2::write::GzEncoder::new(to, flate2::Compression::default());
    serde_json::to_writer(&mut gzip, table)?;
    gzip.finish()?;
    Ok(())
}
