//! The toolchain as it is found and asked.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::arguments::CargoCommand;
use nixcache_core::cargo::config::BuildConfiguration;
use nixcache_core::cargo::toolchain::{Programs, Toolchain};
use nixcache_core::environment::Environment;

fn real() -> Environment {
    let mut environment: Environment = std::env::vars_os().collect();
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC", "CARGO_BUILD_RUSTFLAGS"] {
        environment.remove(name);
    }
    environment
}

fn temporary() -> (tempfile::TempDir, Utf8PathBuf) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let path = Utf8Path::from_path(temporary.path()).expect("a temporary directory is UTF-8");
    let path = path.canonicalize_utf8().expect("a temporary directory has a real path");
    (temporary, path)
}

fn command(line: &str) -> CargoCommand {
    CargoCommand::parse(&line.split(' ').map(Into::into).collect::<Vec<_>>()).expect("the line has a command")
}

#[test]
fn the_compiler_is_asked_about_every_target() {
    let (_kept, directory) = temporary();
    let (environment, build) = (real(), command("build --target wasm32-unknown-unknown"));
    let config = BuildConfiguration::load(&directory, &environment, &build).expect("there is no configuration");
    let programs = Programs::find(&environment, &config).expect("there is a toolchain");
    let toolchain = Toolchain::discover(&programs, &environment, &config, &build).expect("it answers");
    assert!(toolchain.verbose_version.contains(&format!("host: {}", toolchain.host)));
    assert!(toolchain.rustc.starts_with(&toolchain.sysroot) || toolchain.rustc.starts_with("/usr"));
    assert!(toolchain.host_cfg().is_some_and(|cfg| cfg.lines().any(|line| line == "unix")));
    let wasm = toolchain.target_cfg("wasm32-unknown-unknown").expect("it was asked for");
    assert!(wasm.lines().any(|line| line == "target_arch=\"wasm32\""));
    assert_eq!(toolchain.target_cfg("x86_64-pc-windows-msvc"), None);
    assert!(toolchain.cargo_release().is_some());
    let kept = serde_json::to_string(&toolchain).expect("it can be kept");
    assert_eq!(serde_json::from_str::<Toolchain>(&kept).expect("it can be read again"), toolchain);
}

#[test]
fn a_kept_toolchain_holds_for_the_same_questions_alone() {
    let (_kept, directory) = temporary();
    let identity = |line: &str, variables: &[(&str, &str)]| {
        let mut environment = real();
        for (name, value) in variables {
            environment.set(*name, *value);
        }
        let command = command(line);
        let config = BuildConfiguration::load(&directory, &environment, &command).expect("it can be read");
        let programs = Programs::find(&environment, &config).expect("there is a toolchain");
        Toolchain::identity(&programs, &environment, &config, &command).expect("the programs can be looked at")
    };
    let plain = identity("build", &[]);
    assert_eq!(plain, identity("test --release -p x", &[("UNRELATED", "1")]));
    for (line, variables) in [
        ("build --target wasm32-unknown-unknown", &[] as &[(&str, &str)]),
        ("build", &[("RUSTFLAGS", "--cfg a")]),
        ("build", &[("CARGO_BUILD_RUSTFLAGS", "--cfg a")]),
        ("build", &[("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "--cfg a")]),
        ("build --config build.rustflags=['--cfg=a']", &[]),
        ("build --config target.x.rustflags=['--cfg=a']", &[]),
        ("build", &[("RUSTC", "/bin/sh")]),
    ] {
        assert_ne!(plain, identity(line, variables), "{line} {variables:?}");
    }
}

/// A proxy looks the same for every toolchain, so a toolchain kept for it would be used for another.
#[test]
fn proxies_are_looked_behind() {
    let (_kept, directory) = temporary();
    let toolchain = directory.join("toolchains/some");
    let proxy = format!("#!/bin/sh\necho {toolchain}\n");
    for (path, text) in [
        ("proxies/rustup", proxy.as_str()),
        ("proxies/rustc", &proxy),
        ("proxies/cargo", &proxy),
        ("toolchains/some/bin/rustc", "the compiler"),
        ("toolchains/some/bin/cargo", "cargo"),
        ("plain/rustc", "another compiler"),
    ] {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make a directory");
        std::fs::write(&path, text).expect("write a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it a program");
    }
    let find = |variables: &[(&str, &str)]| {
        let mut environment = Environment::default();
        for (name, value) in variables {
            environment.set(*name, *value);
        }
        let config = BuildConfiguration::load(&directory, &environment, &command("build")).expect("it can be read");
        let programs = Programs::find(&environment, &config).expect("there are programs");
        (programs.rustc, programs.cargo)
    };
    let proxies = directory.join("proxies");
    let direct = (toolchain.join("bin/rustc"), toolchain.join("bin/cargo"));
    assert_eq!(find(&[("PATH", proxies.as_str())]), direct);
    let chosen = [("PATH", proxies.as_str()), ("RUSTUP_HOME", directory.as_str()), ("RUSTUP_TOOLCHAIN", "some")];
    assert_eq!(find(&chosen), direct);
    // A compiler that comes first, or that is named, is used whatever rustup says.
    let plain = format!("{directory}/plain:{proxies}");
    let first = [("PATH", plain.as_str()), ("RUSTUP_HOME", directory.as_str()), ("RUSTUP_TOOLCHAIN", "some")];
    assert_eq!(find(&first).0, directory.join("plain/rustc"));
    let named = directory.join("plain/rustc");
    assert_eq!(find(&[("PATH", proxies.as_str()), ("RUSTC", named.as_str())]).0, named);
}
