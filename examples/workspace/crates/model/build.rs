//! Turns `data/ports.csv` into a Rust table in OUT_DIR.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=data/ports.csv");
    println!("cargo::rerun-if-env-changed=TIDES_DATUM");
    let datum = env::var("TIDES_DATUM").unwrap_or_else(|_| "LAT".to_owned());
    println!("cargo::rustc-env=TIDES_DATUM_NAME={datum}");

    let line = regex::Regex::new(r"^(?<name>[^,]+),(?<amplitude>[\d.]+),(?<phase>-?[\d.]+),(?<mean>[\d.]+)$")
        .expect("the expression is valid");
    let table = fs::read_to_string("data/ports.csv").expect("data/ports.csv is part of the package");
    let mut code = String::from("/// Every port we know.\npub static PORTS: &[Port] = &[\n");
    for row in table.lines().skip(1).filter(|row| !row.is_empty()) {
        let row = line.captures(row).unwrap_or_else(|| panic!("not a port: {row}"));
        writeln!(
            code,
            "    Port {{ name: {:?}, amplitude: {}_f64, phase: {}_f64, mean: {}_f64 }},",
            &row["name"], &row["amplitude"], &row["phase"], &row["mean"]
        )
        .expect("a string takes everything");
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("ports.rs"), code).expect("OUT_DIR can be written");
}
