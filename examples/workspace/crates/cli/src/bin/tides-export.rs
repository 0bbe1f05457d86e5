//! Reads a request from standard input and writes the table, as gzipped JSON, to a file.

use anyhow::{Context as _, Result};
use clap::Parser;
use std::fs::File;
use std::io::{Read as _, stdin};
use std::path::PathBuf;
use tides_cli::{Request, write_compressed};

/// Reads a request from standard input and writes the table, as gzipped JSON, to a file.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The file to write.
    output: PathBuf,
}

fn main() -> Result<()> {
    let Arguments { output } = Arguments::parse();
    let mut request = String::new();
    stdin().read_to_string(&mut request)?;
    let table = Request::parse(&request)?.table()?;
    let file = File::create(&output).with_context(|| format!("{} can't be written", output.display()))?;
    write_compressed(&table, file)
}
