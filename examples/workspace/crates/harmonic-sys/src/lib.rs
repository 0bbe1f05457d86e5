//! The harmonic constants' arithmetic, in C.

unsafe extern "C" {
    fn tides_harmonic_height(amplitude: f64, phase: f64, hours: f64) -> f64;
}

/// The height of one constituent above the mean level: amplitude in metres, phase in degrees, time in hours.
pub fn height(amplitude: f64, phase: f64, hours: f64) -> f64 {
    // SAFETY: the function is pure arithmetic on its arguments.
    unsafe { tides_harmonic_height(amplitude, phase, hours) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn high_water_is_at_the_phase() {
        assert!((super::height(2.0, 0.0, 0.0) - 2.0).abs() < 1e-9);
    }
}
