//! Compiles the C file.

fn main() {
    println!("cargo::rerun-if-changed=c/harmonic.c");
    println!("cargo::rerun-if-changed=c/harmonic.h");
    println!("cargo::metadata=revision=2");
    cc::Build::new().file("c/harmonic.c").warnings(true).compile("tides_harmonic");
}
