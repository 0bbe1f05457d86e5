//! Prints the highest water of the coming day, for every port.

use tides_model::PORTS;

fn main() {
    let hours: Vec<f64> = (0..24).map(f64::from).collect();
    for port in PORTS {
        let highest = port.at_each(&hours).into_iter().map(|prediction| prediction.height).fold(0.0, f64::max);
        println!("{:<10} {highest:.2} m", port.name);
    }
}
