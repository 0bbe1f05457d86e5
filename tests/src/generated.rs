//! Workspaces made up for tests: every kind of package, dependency, feature and profile, as directories of nearly
//! empty crates that need no registry.

use std::fmt::Write as _;

use camino::Utf8Path;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A made-up workspace.
#[derive(Clone, Debug)]
pub struct GeneratedWorkspace {
    resolver: &'static str,
    root_package: bool,
    packages: Vec<GeneratedPackage>,
    dependencies: Vec<GeneratedDependency>,
    profiles: String,
    config: String,
}

#[derive(Clone, Debug)]
struct GeneratedPackage {
    member: bool,
    default_member: bool,
    library: Option<&'static str>,
    binaries: usize,
    default_run: bool,
    required: bool,
    example: bool,
    test: bool,
    bench: bool,
    build_script: bool,
    links: bool,
    untested: bool,
    /// Packages outside the workspace can all have one name, in different versions.
    twin: bool,
    features: Vec<(usize, usize)>,
    default_features: Vec<usize>,
}

#[derive(Clone, Debug)]
struct GeneratedDependency {
    from: usize,
    to: usize,
    table: &'static str,
    platform: Option<&'static str>,
    optional: bool,
    renamed: bool,
    default_features: bool,
    features: Vec<usize>,
}

const FEATURES: usize = 3;

fn package() -> impl Strategy<Value = GeneratedPackage> {
    let shape = (
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.7),
        prop_oneof![
            6 => Just(Some("lib")),
            2 => Just(Some("proc-macro")),
            1 => Just(Some("cdylib+rlib")),
            1 => Just(Some("dylib")),
            1 => Just(Some("staticlib")),
            1 => Just(None)
        ],
        0..3usize,
    );
    let targets = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.4),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let features = (vec((0..FEATURES, 0..8usize), 0..5), subsequence((0..FEATURES).collect::<Vec<_>>(), 0..=FEATURES));
    (shape, targets, features).prop_map(|(shape, targets, features)| {
        let (member, default_member, library, binaries) = shape;
        let (default_run, required, example, test, bench, build_script, links, untested, twin) = targets;
        GeneratedPackage {
            member,
            default_member,
            library,
            binaries: if library.is_none() { binaries.max(1) } else { binaries },
            default_run,
            required,
            example,
            test,
            bench,
            build_script,
            links: links && build_script,
            untested,
            twin: twin && !member,
            features: features.0,
            default_features: features.1,
        }
    })
}

fn dependency(packages: usize) -> impl Strategy<Value = GeneratedDependency> {
    let ends = (0..packages, 0..packages);
    let table = select(vec!["dependencies", "dependencies", "dev-dependencies", "build-dependencies"]);
    let platform = prop_oneof![
        4 => Just(None),
        1 => Just(Some("cfg(unix)")),
        1 => Just(Some("cfg(windows)")),
        1 => Just(Some("x86_64-unknown-linux-gnu"))
    ];
    let flags = (prop::bool::weighted(0.35), prop::bool::weighted(0.2), prop::bool::weighted(0.7));
    let features = subsequence((0..FEATURES).collect::<Vec<_>>(), 0..=FEATURES);
    (ends, table, platform, flags, features).prop_map(|(ends, table, platform, flags, features)| GeneratedDependency {
        from: ends.0,
        to: ends.1,
        table,
        platform,
        optional: flags.0 && table != "dev-dependencies",
        renamed: flags.1,
        default_features: flags.2,
        features,
    })
}

fn profiles() -> impl Strategy<Value = String> {
    let lines = [
        "[profile.dev]\nopt-level = 1\nlto = \"thin\"\n",
        "[profile.dev]\ndebug = \"line-tables-only\"\npanic = \"abort\"\n",
        "[profile.dev.build-override]\nopt-level = 3\ndebug = true\n",
        "[profile.dev.package.\"*\"]\nopt-level = 2\nstrip = \"debuginfo\"\n",
        "[profile.dev.package.p1]\ndebug = 1\ncodegen-units = 4\noverflow-checks = false\n",
        "[profile.release]\nlto = true\npanic = \"abort\"\nstrip = true\ncodegen-units = 1\n",
        "[profile.release]\nlto = \"fat\"\ndebug = 1\nincremental = true\n",
        "[profile.release]\nlto = \"off\"\nstrip = \"none\"\nrpath = true\n",
        "[profile.release.package.p0]\nopt-level = \"s\"\n",
        "[profile.test]\nopt-level = 1\ndebug = 0\n",
        "[profile.bench]\ndebug = true\n",
    ];
    (subsequence(lines.to_vec(), 0..4), any::<bool>()).prop_map(|(chosen, custom)| {
        let mut seen: Vec<&str> = Vec::new();
        let mut text = String::new();
        for lines in chosen {
            let header = lines.lines().next().unwrap_or_default();
            if !seen.contains(&header) {
                seen.push(header);
                text.push_str(lines);
            }
        }
        let parent = if custom { "release" } else { "dev" };
        let _ =
            write!(text, "[profile.special]\ninherits = \"{parent}\"\nlto = \"thin\"\nsplit-debuginfo = \"packed\"\n");
        text
    })
}

fn config() -> impl Strategy<Value = String> {
    let lines = [
        "[profile.dev]\nopt-level = 2\ndebug = 0\n",
        "[profile.dev.package.p0]\nopt-level = 3\n",
        "[profile.release.build-override]\ncodegen-units = 8\n",
        "[build]\nincremental = false\n",
        "[profile.release]\nlto = \"off\"\n",
    ];
    subsequence(lines.to_vec(), 0..3).prop_map(|lines| lines.concat())
}

/// Variables that cargo's configuration listens to.
pub fn variables() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let variables = vec![
        ("CARGO_PROFILE_DEV_OPT_LEVEL", "3"),
        ("CARGO_PROFILE_DEV_DEBUG", "false"),
        ("CARGO_PROFILE_DEV_BUILD_OVERRIDE_OPT_LEVEL", "2"),
        ("CARGO_PROFILE_DEV_PACKAGE_p0_OPT_LEVEL", "s"),
        ("CARGO_PROFILE_DEV_PACKAGE_P0_OPT_LEVEL", "z"),
        ("CARGO_PROFILE_RELEASE_LTO", "thin"),
        ("CARGO_PROFILE_RELEASE_LTO", "true"),
        ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
        ("CARGO_PROFILE_SPECIAL_CODEGEN_UNITS", "7"),
        ("CARGO_PROFILE_TEST_PANIC", "abort"),
        ("CARGO_INCREMENTAL", "0"),
        ("CARGO_BUILD_INCREMENTAL", "true"),
        ("CARGO_BUILD_TARGET", "aarch64-unknown-linux-gnu"),
        ("RUSTFLAGS", "--cfg special"),
    ];
    subsequence(variables, 0..3)
}

/// Made-up workspaces.
pub fn workspace() -> impl Strategy<Value = GeneratedWorkspace> {
    (3..7usize).prop_flat_map(|packages| {
        let parts = (
            select(vec!["1", "2", "3"]),
            any::<bool>(),
            vec(package(), packages),
            vec(dependency(packages), 2..12),
            profiles(),
            config(),
        );
        parts.prop_map(|(resolver, root_package, mut packages, dependencies, profiles, config)| {
            packages[0].member = true;
            packages[0].default_member = true;
            GeneratedWorkspace { resolver, root_package, packages, dependencies, profiles, config }.sane()
        })
    })
}

/// Command lines for made-up workspaces.
pub fn command() -> impl Strategy<Value = Vec<String>> {
    let commands = vec!["build", "build", "check", "test --no-run", "test --no-run", "bench --no-run", "doc", "clippy"];
    let packages = vec!["", "", "--workspace", "--workspace --exclude p0", "-p p0", "-p p1", "-p p0 -p p2", "-p p*"];
    let features = vec![
        "",
        "",
        "--all-features",
        "--no-default-features",
        "--features f0",
        "--features p0/f1,f2",
        "--no-default-features -F f1",
    ];
    let profiles = vec!["", "", "--release", "--profile special", "--profile test", "--profile bench"];
    let targets =
        vec!["", "", "", "--all-targets", "--lib", "--bins", "--tests", "--examples", "--lib --tests", "--bin p0-0"];
    let platforms = vec![
        "",
        "",
        "",
        "--target x86_64-unknown-linux-gnu",
        "--target aarch64-unknown-linux-gnu",
        "--target x86_64-pc-windows-msvc",
        "--target wasm32-unknown-unknown --target x86_64-unknown-linux-gnu",
    ];
    (select(commands), select(packages), select(features), select(profiles), select(targets), select(platforms))
        .prop_map(|(command, packages, features, profile, targets, platform)| {
            // `cargo doc` has no tests to choose.
            let targets =
                if command == "doc" && (targets.contains("test") || targets == "--all-targets") { "" } else { targets };
            [command, packages, features, profile, targets, platform]
                .iter()
                .flat_map(|part| part.split_whitespace())
                .map(str::to_owned)
                .chain(["--offline".to_owned()])
                .collect()
        })
}

impl GeneratedWorkspace {
    /// Takes out what cargo would refuse.
    fn sane(mut self) -> Self {
        let has_library: Vec<bool> = self.packages.iter().map(|package| package.library.is_some()).collect();
        let mut seen: Vec<(usize, usize, bool)> = Vec::new();
        self.dependencies.retain_mut(|dependency| {
            // All but dev-dependencies go from later packages to earlier ones, so that there are no cycles; nor do
            // packages outside the workspace have dev-dependencies that anyone sees.
            let cyclic = dependency.table != "dev-dependencies" && dependency.from <= dependency.to;
            if cyclic {
                std::mem::swap(&mut dependency.from, &mut dependency.to);
            }
            if dependency.from == dependency.to || !has_library[dependency.to] {
                return false;
            }
            // A package has one name for another, whatever it needs it for.
            if let Some((.., renamed)) =
                seen.iter().find(|(from, to, _)| (*from, *to) == (dependency.from, dependency.to))
            {
                dependency.renamed = *renamed;
            }
            seen.push((dependency.from, dependency.to, dependency.renamed));
            true
        });
        let mut keys: Vec<(usize, usize, &str, Option<&str>)> = Vec::new();
        self.dependencies.retain(|dependency| {
            let key = (dependency.from, dependency.to, dependency.table, dependency.platform);
            let new = !keys.contains(&key);
            keys.push(key);
            new
        });
        self
    }

    /// The directory of one of its packages, whichever `index` there is.
    pub fn package_directory(&self, index: usize) -> String {
        self.directory(index % self.packages.len())
    }

    /// Writes the workspace.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn write(&self, directory: &Utf8Path) -> std::io::Result<()> {
        let members: Vec<String> =
            self.packages.iter().enumerate().filter(|(_, p)| p.member).map(|(i, _)| self.directory(i)).collect();
        let defaults: Vec<String> = (self.packages.iter().enumerate())
            .filter(|(_, p)| p.member && p.default_member)
            .map(|(i, _)| self.directory(i))
            .collect();
        let others: Vec<String> =
            self.packages.iter().enumerate().filter(|(_, p)| !p.member).map(|(i, _)| self.directory(i)).collect();
        let workspace = format!(
            "[workspace]\nresolver = {:?}\nmembers = {members:?}\ndefault-members = {defaults:?}\nexclude = {others:?}\n{}",
            self.resolver, self.profiles
        );
        for index in 0..self.packages.len() {
            let at = directory.join(self.directory(index));
            let mut manifest = self.manifest(index);
            if index == 0 && self.root_package {
                manifest.push_str(&workspace);
            }
            write(&at.join("Cargo.toml"), &manifest)?;
            self.sources(index, &at)?;
        }
        if !self.root_package {
            write(&directory.join("Cargo.toml"), &workspace)?;
        }
        write(&directory.join(".cargo/config.toml"), &self.config)
    }

    fn directory(&self, index: usize) -> String {
        match index {
            0 if self.root_package => ".".to_owned(),
            index => format!("p{index}"),
        }
    }

    fn sources(&self, index: usize, at: &Utf8Path) -> std::io::Result<()> {
        let package = &self.packages[index];
        if package.library.is_some() {
            write(&at.join("src/lib.rs"), "")?;
        }
        for binary in 0..package.binaries {
            write(&at.join(format!("src/bin/p{index}-{binary}.rs")), "fn main() {}")?;
        }
        let optional = [
            (package.example, "examples/example.rs"),
            (package.test, "tests/integration.rs"),
            (package.bench, "benches/speed.rs"),
            (package.build_script, "build.rs"),
        ];
        for (_, path) in optional.iter().filter(|(wanted, _)| *wanted) {
            write(&at.join(path), "fn main() {}")?;
        }
        Ok(())
    }

    fn manifest(&self, index: usize) -> String {
        let package = &self.packages[index];
        let name = self.name(index);
        let mut text = format!("[package]\nname = \"{name}\"\nversion = \"0.{index}.0\"\nedition = \"2021\"\n");
        if package.links {
            let _ = writeln!(text, "links = \"native{index}\"");
        }
        if package.default_run && package.binaries > 0 {
            let _ = writeln!(text, "default-run = \"p{index}-0\"");
        }
        match package.library {
            Some("proc-macro") => text.push_str("[lib]\nproc-macro = true\n"),
            Some("cdylib+rlib") => text.push_str("[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n"),
            Some("dylib") => text.push_str("[lib]\ncrate-type = [\"dylib\"]\n"),
            Some("staticlib") => text.push_str("[lib]\ncrate-type = [\"staticlib\"]\n"),
            Some(_) if package.untested => text.push_str("[lib]\ntest = false\nbench = false\ndoctest = false\n"),
            _ => {}
        }
        if package.required && package.binaries > 0 {
            let _ = writeln!(text, "[[bin]]\nname = \"p{index}-0\"\nrequired-features = [\"f0\"]");
        }
        if package.example && package.untested {
            text.push_str("[[example]]\nname = \"example\"\ntest = true\n");
        }
        if package.bench {
            let _ = writeln!(text, "[[bench]]\nname = \"speed\"\nharness = {}", package.untested);
        }
        text.push_str("[features]\n");
        let optional: Vec<String> = self
            .dependencies
            .iter()
            .filter(|dependency| dependency.from == index && dependency.optional)
            .map(|dependency| self.dependency_name(dependency))
            .collect();
        let mut any: Vec<String> = Vec::new();
        for dependency in self.dependencies.iter().filter(|dependency| dependency.from == index) {
            if dependency.table != "dev-dependencies" {
                any.push(self.dependency_name(dependency));
            }
        }
        for feature in 0..FEATURES {
            let mut values: Vec<String> = Vec::new();
            for (_, what) in package.features.iter().filter(|(of, _)| *of == feature) {
                let pick = |names: &[String]| names.get(what % names.len().max(1)).cloned();
                values.extend(match what % 4 {
                    0 if feature + 1 < FEATURES => Some(format!("f{}", feature + 1)),
                    1 => pick(&optional).map(|name| format!("dep:{name}")),
                    2 => pick(&any).map(|name| format!("{name}/f{}", what % FEATURES)),
                    3 => pick(&optional).map(|name| format!("{name}?/f{}", what % FEATURES)),
                    _ => None,
                });
            }
            let _ = writeln!(text, "f{feature} = {values:?}");
        }
        let default: Vec<String> = package.default_features.iter().map(|feature| format!("f{feature}")).collect();
        let _ = writeln!(text, "default = {default:?}");
        for dependency in self.dependencies.iter().filter(|dependency| dependency.from == index) {
            let table = match dependency.platform {
                Some(platform) => format!("target.'{platform}'.{}", dependency.table),
                None => dependency.table.to_owned(),
            };
            let features: Vec<String> = dependency.features.iter().map(|feature| format!("f{feature}")).collect();
            let _ = writeln!(
                text,
                "[{table}.{}]\npackage = \"{}\"\npath = \"{}\"\ndefault-features = {}\nfeatures = {features:?}\noptional = {}",
                self.dependency_name(dependency),
                self.name(dependency.to),
                self.path(index, dependency.to),
                dependency.default_features,
                dependency.optional,
            );
        }
        text
    }

    fn name(&self, package: usize) -> String {
        match self.packages[package].twin {
            true => "twin".to_owned(),
            false => format!("p{package}"),
        }
    }

    fn dependency_name(&self, dependency: &GeneratedDependency) -> String {
        match dependency.renamed {
            true => format!("other-{}", dependency.to),
            false => format!("p{}", dependency.to),
        }
    }

    fn path(&self, from: usize, to: usize) -> String {
        match (self.root_package && from == 0, self.root_package && to == 0) {
            (true, _) => self.directory(to),
            (false, true) => "..".to_owned(),
            (false, false) => format!("../{}", self.directory(to)),
        }
    }
}

fn write(path: &Utf8Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}
