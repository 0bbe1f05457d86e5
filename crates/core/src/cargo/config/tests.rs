//! The configuration as cargo reads it. What decides flags is held to real cargo by the end-to-end tests.

use super::*;
use crate::cargo::profile::DebugInformation;

struct Place {
    directory: tempfile::TempDir,
    environment: Environment,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = Self { environment: Environment::default(), directory };
        for (path, text) in files {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make a directory");
            std::fs::write(path, text).expect("write a file");
        }
        let mut place = place;
        place.environment.set("CARGO_HOME", place.path().join("home").as_str());
        place
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("a temporary directory is UTF-8")
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.set(name, value);
        self
    }

    fn load(&self, line: &str) -> Result<BuildConfiguration, ConfigError> {
        let words: Vec<std::ffi::OsString> = line.split_whitespace().map(Into::into).collect();
        let command = CargoCommand::parse(&words).expect("the line has a command");
        BuildConfiguration::load(&self.path().join("work/member"), &self.environment, &command)
    }

    fn read(&self, line: &str) -> BuildConfiguration {
        self.load(line).expect("the configuration is readable")
    }
}

const NESTED: &[(&str, &str)] = &[
    ("home/config.toml", "[build]\nrustc-wrapper = 'home'\nrustflags = ['home']\n[net]\noffline = true"),
    (
        "work/.cargo/config.toml",
        "[build]\nrustc-wrapper = './work'\nrustflags = ['work']\n[alias]\nbb = 'build --release'",
    ),
    ("work/member/.cargo/config.toml", "[build]\nrustflags = ['member']\n[alias]\ncc = ['check', '--lib']"),
];

#[test]
fn nearer_files_override_and_lists_are_joined() {
    let place = Place::new(NESTED);
    let config = place.read("build");
    assert_eq!(config.rustc_wrapper.as_deref(), Some(place.path().join("work/./work").as_path()));
    assert_eq!(config.flags("x", &[], false).rustflags, ["home", "work", "member"]);
    assert!(config.flags("x", &[], true).rustflags.is_empty());
    assert!(config.offline);
    assert_eq!(config.alias("bb"), Some(vec!["build".to_owned(), "--release".to_owned()]));
    assert_eq!(config.alias("cc"), Some(vec!["check".to_owned(), "--lib".to_owned()]));
    assert_eq!(config.alias("dd"), None);
}

#[test]
fn variables_override_files_and_arguments_override_variables() {
    let place = Place::new(NESTED).set("CARGO_BUILD_RUSTC_WRAPPER", "variable").set("CARGO_BUILD_RUSTFLAGS", "v1 v2");
    assert_eq!(place.read("build").rustc_wrapper.as_deref(), Some("variable".into()));
    assert_eq!(place.read("build").flags("x", &[], false).rustflags, ["home", "work", "member", "v1", "v2"]);
    let line = "build --config build.rustc-wrapper='argument' --config build.rustflags=['late']";
    assert_eq!(place.read(line).rustc_wrapper.as_deref(), Some("argument".into()));
    assert_eq!(place.read(line).flags("x", &[], false).rustflags, ["home", "work", "member", "v1", "v2", "late"]);
    let place = place.set("RUSTC_WRAPPER", "");
    assert_eq!(place.read(line).rustc_wrapper, None);
}

#[test]
fn files_include_others_and_arguments_name_files() {
    let place = Place::new(&[
        (
            "work/.cargo/config.toml",
            "include = ['a.toml', { path = 'none.toml', optional = true }]\n[build]\nrustc = 'own'",
        ),
        ("work/.cargo/a.toml", "[build]\nrustc = 'a'\nrustdoc = './a/rustdoc'"),
        ("work/member/extra.toml", "[build]\nrustc = 'extra'\n[target.x]\nlinker = 'bin/ld'"),
        ("work/member/loop.toml", "include = 'loop.toml'"),
    ]);
    let config = place.read("build");
    assert_eq!(config.rustc.as_deref(), Some("own".into()));
    assert_eq!(config.rustdoc.as_deref(), Some(place.path().join("work/./a/rustdoc").as_path()));
    let config = place.read("build --config extra.toml");
    assert_eq!(config.rustc.as_deref(), Some("extra".into()));
    assert_eq!(config.linker("x", &[]), Some(place.path().join("work/bin/ld").into_string()));
    assert!(place.load("build --config loop.toml").is_err());
    assert!(matches!(place.load("build --config nonsense"), Err(ConfigError::Argument { .. })));
}

#[test]
fn profiles_are_read_with_their_variables() {
    let place = Place::new(&[(
        "work/.cargo/config.toml",
        "[profile.dev]\ndebug = 1\nopt-level = 2\n[profile.dev.package.serde]\nopt-level = 3",
    )]);
    let place = place
        .set("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .set("CARGO_PROFILE_DEV_BUILD_OVERRIDE_CODEGEN_UNITS", "4")
        .set("CARGO_PROFILE_DEV_PACKAGE_serde_STRIP", "true")
        .set("CARGO_PROFILE_OTHER_LTO", "thin");
    let dev = place.read("build").profile("dev").expect("the profile is sound").expect("there is one");
    assert_eq!(dev.debug, Some(DebugInformation::LineTablesOnly));
    assert_eq!(dev.opt_level.as_deref(), Some("2"));
    assert_eq!(dev.build_override.expect("there is one").codegen_units, Some(4));
    let serde = dev.packages.values().next().expect("there is one");
    assert_eq!((serde.opt_level.as_deref(), serde.strip.as_deref()), (Some("3"), Some("symbols")));
    assert!(place.read("build").profile("other").expect("the profile is sound").is_some());
    assert!(place.read("build").profile("release").expect("the profile is sound").is_none());
    let late = place.read("build --config profile.dev.debug=false");
    assert_eq!(late.profile("dev").expect("sound").expect("there").debug, Some(DebugInformation::None));
    assert!(place.read("build --config profile.dev.debug='what'").profile("dev").is_err());
}

#[test]
fn targets_and_variables_of_the_configuration_are_read() {
    let place = Place::new(&[(
        "work/.cargo/config.toml",
        "[build]\ntarget = ['b', 'a', 'host-tuple']\n[env]\nA = 'plain'\n\
         B = { value = 'path', relative = true, force = true }\n[target.x.native]\nrustc-link-lib = ['z']",
    )]);
    let config = place.read("build");
    let command =
        |line: &str| CargoCommand::parse(&line.split(' ').map(Into::into).collect::<Vec<_>>()).expect("parses");
    let names = |config: &BuildConfiguration, line: &str| -> Vec<String> {
        config.requested_targets(&command(line), "h").into_iter().map(|target| target.name).collect()
    };
    assert_eq!(names(&config, "build"), ["a", "b", "h"]);
    assert_eq!(names(&config, "build --target c --target c"), ["c"]);
    let relative = place.path().join("work/path").into_string();
    let expected = [("A", "plain".to_owned(), false, false), ("B", relative, true, true)];
    let expected =
        expected.map(|(name, value, force, relative)| (name.to_owned(), ConfiguredVariable { value, force, relative }));
    assert_eq!(config.variables, expected.into_iter().collect());
    assert_eq!(config.links_overrides("x"), ["native"]);
    assert!(config.links_overrides("y").is_empty());
    let place = place.set("CARGO_BUILD_TARGET", "v");
    assert_eq!(names(&place.read("build"), "build"), ["v"]);
}

#[test]
fn unstable_settings_are_named() {
    let place = Place::new(&[("work/.cargo/config.toml", "[unstable]\nbuild-std = ['core']\nunstable-options = true")]);
    let place = place.set("CARGO_UNSTABLE_BINDEPS", "true").set("CARGO_RESOLVER_FEATURE_UNIFICATION", "workspace");
    let named: Vec<String> = place.read("build").unplanned.into_iter().map(|reason| reason.what).collect();
    assert_eq!(named, ["unstable.build-std", "unstable.bindeps", "resolver.feature-unification"]);
}

#[test]
fn types_that_cargo_would_not_merge_are_refused() {
    let place = Place::new(&[
        ("home/config.toml", "[build]\nrustflags = 'text'"),
        ("work/.cargo/config.toml", "[build]\nrustflags = ['list']"),
    ]);
    assert!(matches!(place.load("build"), Err(ConfigError::Mixed { key }) if key == "build.rustflags"));
}
