//! `man`: the manual page, in roff.

use std::process::ExitCode;

use super::completions::{PROGRAM, program};
use super::print;
use crate::report::Report;

/// `cargo nixcache man`. `man` finds the page of `cargo help nixcache` under this name, too.
pub(crate) fn run() -> ExitCode {
    let mut page = Vec::new();
    match clap_mangen::Man::new(program(PROGRAM)).render(&mut page) {
        Ok(()) => {
            print(String::from_utf8_lossy(&page).trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            Report::new(false, false, None).error(&error, None);
            ExitCode::FAILURE
        }
    }
}
