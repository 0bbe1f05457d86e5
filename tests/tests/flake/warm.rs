//! Built units cross the border of derivations: published outside and used inside, and the other way round.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nixcache_tests::{Machine, Workspace};

use super::place::Place;

/// A machine with a workspace and a cache, and a Nix beside it.
pub(crate) struct Border {
    pub(crate) place: Place,
    pub(crate) machine: Machine,
    pub(crate) workspace: Workspace,
    public_key: String,
}

const MAIN: &str = "fn main() {\n    let _ = winnow::error::ErrMode::<()>::Backtrack(());\n    println!(\"{}\", quote::quote!(it works));\n}\n";

impl Border {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let mut place = Place::new(test)?;
        let machine = Machine::new();
        place.show(machine.cargo_home().join("registry"));
        place.show(place.path("cache"));
        place.show(place.path("rustc"));
        let workspace = machine.workspace("app");
        workspace.package("", "[dependencies]\nquote = \"1\"\nwinnow = \"0.7\"\n[workspace]\n", MAIN);
        let anywhere = machine.workspace("anywhere").with_env("NIXCACHE_SECRET_KEY_FILE", place.path("secret-key"));
        anywhere.write("nothing", "");
        let public_key = anywhere.nixcache(&["key", "generate", "test-1"]).succeed().stdout.trim().to_owned();
        place.write(
            "lib.nix",
            &format!(
                "let
                   pkgs = import ./stand-in {{ }};
                   base = import ./nix/lib.nix {{ inherit pkgs; }};
                 in
                 base.appendCrateRegistries [
                   (base.registryFromDownloadUrl {{
                     indexUrl = \"https://github.com/rust-lang/crates.io-index\";
                     dl = \"file://{}/registry/cache/index.crates.io-1949cf8c6b5b557f/{{crate}}-{{version}}.crate\";
                   }})
                 ]\n",
                machine.cargo_home().display()
            ),
        );
        Some(Self { place, machine, workspace, public_key })
    }

    pub(crate) fn cache(&self) -> String {
        format!("file://{}", self.place.path("cache").display())
    }

    pub(crate) fn publishing(&self, workspace: &Workspace) -> Workspace {
        workspace
            .with_env("NIXCACHE_PUBLISH", self.cache())
            .with_env("NIXCACHE_SECRET_KEY_FILE", self.place.path("secret-key"))
    }

    pub(crate) fn fetching(&self, workspace: &Workspace) -> Workspace {
        workspace.with_env("NIXCACHE_CACHES", self.cache()).with_env("NIXCACHE_TRUSTED_KEYS", &self.public_key)
    }

    /// The workspace's sources beside the Nix expressions.
    pub(crate) fn copy_sources(&self) {
        let _ = fs::remove_dir_all(self.place.path("ws"));
        nixcache_tests::copy_tree(self.workspace.root(), &self.place.path("ws"), &["target"]);
    }

    /// Inside of derivations rustc compiles these crates, and fails for all others.
    pub(crate) fn allow(&self, crates: &[&str]) {
        let text = fs::read_to_string(self.place.path("stand-in/host.nix")).unwrap();
        let toolchain = text.split("toolchain = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let guard = self.place.path("rustc");
        self.place.write(
            "rustc",
            &format!(
                "#!/bin/sh\nname='' previous=''\nfor argument do\n  [ \"$previous\" = --crate-name ] && name=$argument\n  \
                 previous=$argument\ndone\ncase \"$name\" in ''|___|{}) exec {toolchain}/bin/rustc \"$@\" ;; esac\n\
                 echo \"guard: rustc was called for $name\" >&2\nexit 86\n",
                crates.join("|")
            ),
        );
        fs::set_permissions(&guard, fs::Permissions::from_mode(0o755)).unwrap();
        if !text.contains("rustc = ") {
            let text = text.replacen('{', &format!("{{\n  rustc = \"{}\";", guard.display()), 1);
            self.place.write("stand-in/host.nix", &text);
        }
    }

    /// Puts a library where the machine's cargo has crates from crates.io. `versions` are all that there are, the last one
    /// being new.
    fn add_crate(&self, name: &str, versions: &[&str], source: &str, dependencies: &[&str]) {
        let registry = self.machine.cargo_home().join("registry");
        let label = format!("{name}-{}", versions.last().unwrap());
        self.place.publish(name, versions.last().unwrap(), source, dependencies);
        let cache = registry.join("cache/index.crates.io-1949cf8c6b5b557f");
        fs::copy(self.place.path(&format!("crates/{label}.crate")), cache.join(format!("{label}.crate"))).unwrap();
        // What cargo keeps of the index: the versions of two formats, where it is from, and a line for each version.
        let mut entry = b"\x03\x02\x00\x00\x00Unknown\x00".to_vec();
        for version in versions {
            let file = cache.join(format!("{name}-{version}.crate"));
            let sum = std::process::Command::new("sha256sum").arg(file).output().unwrap().stdout;
            let sum = String::from_utf8(sum).unwrap().split_whitespace().next().unwrap().to_owned();
            let needs: Vec<serde_json::Value> = dependencies
                .iter()
                .map(|name| {
                    serde_json::json!({
                        "name": name, "req": "^1", "features": [], "optional": false, "default_features": true,
                        "target": null, "kind": "normal",
                    })
                })
                .collect();
            let line = serde_json::json!({
                "name": name, "vers": version, "deps": needs, "cksum": sum, "features": {}, "yanked": false,
            });
            entry.extend(format!("{version}\0{line}\0").bytes());
        }
        let index = registry.join("index/index.crates.io-1949cf8c6b5b557f/.cache").join(&name[..2]).join(&name[2..4]);
        fs::create_dir_all(&index).unwrap();
        fs::write(index.join(name), entry).unwrap();
    }

    /// Writes the lock file of what was published, beside the Nix expressions.
    pub(crate) fn lock(&self) -> PathBuf {
        let lock = self.place.path("nixcache.lock");
        let locking = self.fetching(&self.workspace);
        locking.nixcache(&["nix", "lock", "--file", lock.to_str().unwrap()]).succeed();
        lock
    }

    /// What that lock file names, as an expression.
    pub(crate) fn warm_artifacts(&self) -> String {
        format!("(lib.warmArtifacts {{ lock = ./nixcache.lock; caches = [ \"{}\" ]; }})", self.cache())
    }

    pub(crate) fn build_workspace(&self, more: &str) -> String {
        format!("(lib.buildWorkspace {{ src = ./ws; CARGO_PROFILE = \"\"; doCheck = false; {more} }})")
    }
}

#[test]
fn units_published_outside_are_used_inside_and_a_bump_compiles_the_bumped_crate_alone() {
    let test = "units_published_outside_are_used_inside_and_a_bump_compiles_the_bumped_crate_alone";
    let Some(border) = Border::new(test) else { return };
    let Border { place, workspace, .. } = &border;
    border.publishing(workspace).build(&["build"]);
    let lock = border.lock();
    let text = fs::read_to_string(&lock).unwrap();
    assert!(text.contains("-cargo-quote-1.") && text.contains("-cargo-unicode-ident-1."), "{text}");
    // Written again, it is the same.
    border.lock();
    assert_eq!(fs::read_to_string(&lock).unwrap(), text);

    border.copy_sources();
    border.allow(&["app"]);
    let warm = format!("warmArtifacts = {};", border.warm_artifacts());
    let app = format!("{}.packages.app", border.build_workspace(&warm));
    let (path, log) = place.build(&app);
    assert!(!log.contains("Compiling quote"), "{log}");
    let output = std::process::Command::new(path.join("bin/app")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "it works\n");

    // The lock file knows nothing of the newer winnow.
    workspace.edit("Cargo.toml", "winnow = \"0.7\"", "winnow = \"1\"");
    workspace.cargo(&["generate-lockfile"]).succeed();
    border.copy_sources();
    border.allow(&["app", "winnow"]);
    let (path, log) = place.build(&app);
    assert!(log.contains("Compiling winnow v1"), "{log}");
    let output = std::process::Command::new(path.join("bin/app")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "it works\n");
}

#[test]
fn a_bump_compiles_the_bumped_crate_and_what_depends_on_it() {
    let Some(border) = Border::new("a_bump_compiles_the_bumped_crate_and_what_depends_on_it") else { return };
    let Border { place, workspace, .. } = &border;
    border.add_crate("leafy", &["1.0.0"], "pub fn number() -> u32 { 40 }\n", &[]);
    border.add_crate("middle", &["1.0.0"], "pub fn number() -> u32 { leafy::number() + 2 }\n", &["leafy"]);
    border.add_crate("apart", &["1.0.0"], "pub fn number() -> u32 { 7 }\n", &[]);
    let main = "fn main() {\n    println!(\"{} {}\", middle::number(), apart::number());\n}\n";
    workspace.package("", "[dependencies]\napart = \"1\"\nmiddle = \"1\"\n[workspace]\n", main);
    border.publishing(workspace).build(&["build"]);
    border.lock();

    border.copy_sources();
    border.allow(&["app"]);
    let warm = format!("warmArtifacts = {};", border.warm_artifacts());
    let app = format!("{}.packages.app", border.build_workspace(&warm));
    let run = |path: PathBuf| {
        let output = std::process::Command::new(path.join("bin/app")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(place.build(&app).0), "42 7\n");

    border.add_crate("leafy", &["1.0.0", "1.0.1"], "pub fn number() -> u32 { 41 }\n", &[]);
    workspace.cargo(&["update", "--package", "leafy"]).succeed();
    border.copy_sources();
    border.allow(&["app", "leafy", "middle"]);
    let (path, log) = place.build(&app);
    assert!(log.contains("Compiling leafy v1.0.1") && log.contains("Compiling middle v1.0.0"), "{log}");
    assert!(!log.contains("Compiling apart"), "{log}");
    assert_eq!(run(path), "43 7\n");
}

#[test]
fn units_built_inside_are_used_outside() {
    let Some(border) = Border::new("units_built_inside_are_used_outside") else { return };
    let Border { place, machine, workspace, .. } = &border;
    workspace.cargo(&["generate-lockfile"]).succeed();
    border.copy_sources();
    let collecting =
        "deps = { outputs = [ \"out\" \"units\" ]; nativeBuildInputs = [ (lib.restoreHook { }) lib.collectHook ]; };";
    let (units, _) = place.build(&format!("{}.deps.units", border.build_workspace(collecting)));
    let names: Vec<String> =
        fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.contains("-cargo-quote-1.")), "{names:?}");

    let pushing = border.publishing(workspace).with_env("NIXCACHE_STORE", place.path("store-of-the-publisher"));
    pushing.nixcache(&["push", "--from", units.to_str().unwrap()]).succeed();
    // A second time there is nothing to do.
    pushing.nixcache(&["push", "--from", units.to_str().unwrap()]).succeed();

    let other = machine.another();
    let copy = border.fetching(&workspace.checkout_on(&other, "app"));
    copy.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(copy.run_output("debug/app"), "it works\n");
}

#[test]
fn a_cache_with_other_content_stops_a_derivation_and_says_what_to_do() {
    let Some(border) = Border::new("a_cache_with_other_content_stops_a_derivation_and_says_what_to_do") else { return };
    let Border { place, workspace, .. } = &border;
    border.publishing(workspace).build(&["build"]);
    border.lock();
    border.copy_sources();
    let expression = format!("let lib = import ./lib.nix; in {}.list", border.warm_artifacts());

    let files: Vec<PathBuf> = nixcache_tests::walk(&place.path("cache"));
    let narinfo = files.iter().find(|path| {
        let is_narinfo = path.extension().is_some_and(|extension| extension == "narinfo");
        // The narinfos of sets name it too, among what they refer to.
        let is_its = |text: &str| text.lines().next().is_some_and(|path| path.contains("-cargo-unicode-ident-"));
        is_narinfo && is_its(&fs::read_to_string(path).unwrap())
    });
    let narinfo = narinfo.unwrap();
    let remedy = "cargo nixcache nix lock";

    // Another archive under the right name.
    let text = fs::read_to_string(narinfo).unwrap();
    let nar = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    let nar = place.path("cache").join(nar);
    let bytes = fs::read(&nar).unwrap();
    let other = files.iter().find(|path| path.parent() == nar.parent() && **path != nar).unwrap();
    fs::copy(other, &nar).unwrap();
    let log = place.fail("nix-build", &["--no-out-link", "--expr", &expression]);
    assert!(log.contains("error: fetch /nix/store/") && log.contains(remedy), "{log}");
    assert!(!log.contains("hash mismatch in fixed-output"), "{log}");
    fs::write(&nar, bytes).unwrap();

    // Another content, said openly.
    let hash = text.lines().find_map(|line| line.strip_prefix("NarHash: ")).unwrap();
    let wrong = "sha256:0000000000000000000000000000000000000000000000000000";
    fs::write(narinfo, text.replace(hash, wrong)).unwrap();
    let log = place.fail("nix-build", &["--no-out-link", "--expr", &expression]);
    assert!(log.contains("error: fetch /nix/store/") && log.contains(remedy), "{log}");

    // Nothing at all.
    fs::remove_file(narinfo).unwrap();
    let log = place.fail("nix-build", &["--no-out-link", "--expr", &expression]);
    assert!(log.contains("no cache has it") && log.contains("cargo nixcache push"), "{log}");
}

#[test]
fn a_published_program_is_fetched_by_its_content_without_a_key() {
    let Some(border) = Border::new("a_published_program_is_fetched_by_its_content_without_a_key") else { return };
    let Border { place, workspace, .. } = &border;
    workspace.package("", "[workspace]\n", "fn main() {\n    println!(\"it works\");\n}\n");
    border.publishing(workspace).build(&["build"]);
    let narinfos = nixcache_tests::walk(&place.path("cache"));
    let text = narinfos
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find(|text| text.contains("-app-0.1.0\n") && text.contains("\nCA: fixed:r:sha256:"))
        .unwrap();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (path, hash) = (field("StorePath:"), field("NarHash:"));
    let caches = format!("caches = [ \"{}\" ];", border.cache());
    let (app, _) = place.build(&format!("lib.fetchOutput {{ path = \"{path}\"; narHash = \"{hash}\"; {caches} }}"));
    let output = std::process::Command::new(app.join("bin/app")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "it works\n");

    // A NIF in a lock file is such a path too.
    let target = super::arguments::host();
    place.write(
        "nixcache.lock",
        &format!(
            "version = 1\n\n[nif.app]\nversion = \"0.1.0\"\n\n[[nif.app.files]]\nnar-hash = \"{hash}\"\n\
             nif-version = \"2.15\"\npath = \"{path}\"\ntarget = \"{target}\"\n"
        ),
    );
    let (nif, _) = place.build(&format!("lib.fetchNif {{ lock = ./nixcache.lock; nif = \"app\"; {caches} }}"));
    assert_eq!(nif, app);
    // Nobody writes another content's hash beside a path and goes on.
    let other = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let error = place.evaluation_error_in_nix_store(&format!(
        "(lib.fetchOutput {{ path = \"{path}\"; narHash = \"{other}\"; {caches} }}).outPath"
    ));
    assert!(error.contains("and /nix/store/") && error.contains("cargo nixcache nix lock"), "{error}");
}
