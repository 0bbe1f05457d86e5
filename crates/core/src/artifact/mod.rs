//! Unit artifacts: how the files of a built unit are normalised, kept, and put back.

mod roots;

pub use roots::{RootKind, Roots};
