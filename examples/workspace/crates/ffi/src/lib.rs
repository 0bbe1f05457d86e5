//! The model for programs in other languages.

use std::ffi::{CStr, c_char};
use tides_model::Port;

/// The height of the water in metres, or NaN for an unknown port.
///
/// # Safety
///
/// `port` must point to a string that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tides_height(port: *const c_char, hours: f64) -> f64 {
    // SAFETY: the caller promises a string that ends with a zero byte.
    let name = unsafe { CStr::from_ptr(port) };
    name.to_str().ok().and_then(|name| Port::find(name).ok()).map_or(f64::NAN, |port| port.at(hours).height)
}
