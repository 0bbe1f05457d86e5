//! Prints a tide table.

use anyhow::Result;
use clap::Parser;
use tides_cli::Request;

/// Prints a tide table.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The port.
    #[arg(default_value = "Brest")]
    port: String,
    /// How many hours to show.
    #[arg(long, default_value_t = 6)]
    hours: u32,
}

fn main() -> Result<()> {
    let Arguments { port, hours } = Arguments::parse();
    println!("metres above {}", tides_model::DATUM);
    for prediction in (Request { port, hours }).table()? {
        println!("{:>2} h {:>6.2} m", prediction.hours, prediction.height);
    }
    Ok(())
}
