pub use helper::*;
