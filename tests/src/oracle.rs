//! Holds a plan to what cargo itself says it would build: `cargo … --unit-graph`, which needs an unstable flag and is
//! therefore for tests alone.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::arguments::CargoCommand;
use nixcache_core::cargo::config::BuildConfiguration;
use nixcache_core::cargo::metadata::{self, Metadata};
use nixcache_core::cargo::toolchain::{Programs, Toolchain};
use nixcache_core::environment::Environment;
use nixcache_core::plan::{WorkspaceAnswer, WorkspacePlaces, left_to_cargo, plan};
use nixcache_core::unit::{CompileMode, CompilePlatform, CrateType, TargetKind, UnitGraph};
use serde_json::Value;

/// What a comparison came to.
#[derive(Debug)]
pub enum Verdict {
    /// The plan is what cargo would build.
    Equal {
        /// How many units it has.
        units: usize,
    },
    /// It is not. The text says where.
    Different(String),
    /// Both refuse.
    BothRefuse(String),
    /// The planner leaves the command to cargo, and says why.
    PassedThrough(String),
}

/// One unit, as text without its dependencies, and the edges.
struct Described {
    text: String,
    dependencies: Vec<(String, usize)>,
}

/// Everything that a plan needs of a workspace, read once.
pub struct Workspace {
    directory: Utf8PathBuf,
    environment: Environment,
    answers: HashMap<Vec<OsString>, WorkspaceAnswer>,
    last: Option<Vec<OsString>>,
    toolchains: HashMap<String, Toolchain>,
    /// How long the last plan took, reading apart.
    pub planning: std::time::Duration,
}

impl Workspace {
    /// The workspace in `directory`; `variables` are added to the environment.
    pub fn new(directory: &Utf8Path, variables: &[(&str, &str)]) -> Self {
        let mut environment: Environment = std::env::vars_os().collect();
        // What cargo sets for tests must not reach the cargo under test, except which toolchain it is.
        let own: Vec<OsString> = environment
            .iter()
            .map(|(name, _)| name.to_owned())
            .filter(|name| {
                let name = name.to_string_lossy();
                let kept = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_CAINFO"].contains(&&*name);
                (name.starts_with("CARGO") && !kept) || name.starts_with("RUSTFLAGS") || name.starts_with("RUSTC")
            })
            .collect();
        for name in own {
            environment.remove(name);
        }
        for (name, value) in variables {
            environment.set(*name, *value);
        }
        Self {
            directory: directory.to_owned(),
            environment,
            answers: HashMap::new(),
            last: None,
            toolchains: HashMap::new(),
            planning: std::time::Duration::ZERO,
        }
    }

    /// The environment that cargo is started with.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What `cargo metadata` said for the last command that was planned.
    pub fn metadata(&self) -> Option<&str> {
        let answer = self.last.as_ref().and_then(|key| self.answers.get(key));
        answer.map(|answer| answer.metadata.as_str())
    }

    /// Where the workspace of the commands that were planned is.
    pub fn places(&self) -> Option<&WorkspacePlaces> {
        self.answers.values().next().map(|answer| &answer.places)
    }

    /// Plans a command line.
    ///
    /// # Errors
    ///
    /// A text, for whatever reason there is no plan.
    pub fn plan(&mut self, arguments: &[&str]) -> Result<UnitGraph, String> {
        let text = |error: &dyn std::error::Error| {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        };
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let command = CargoCommand::parse(&arguments).map_err(|error| text(&error))?;
        let config = BuildConfiguration::load(&self.directory, &self.environment, &command).map_err(|e| text(&e))?;
        let command = command.resolve_alias(|name| config.alias(name)).map_err(|error| text(&error))?;
        let passed_through = left_to_cargo(&command, &config);
        if !passed_through.is_empty() {
            return Ok(UnitGraph { passed_through, ..UnitGraph::default() });
        }
        let programs = Programs::find(&self.environment, &config).map_err(|error| text(&error))?;
        let identity =
            Toolchain::identity(&programs, &self.environment, &config, &command).map_err(|error| text(&error))?;
        let identity = format!("{identity:?}");
        if !self.toolchains.contains_key(&identity) {
            let toolchain =
                Toolchain::discover(&programs, &self.environment, &config, &command).map_err(|error| text(&error))?;
            self.toolchains.insert(identity.clone(), toolchain);
        }
        let toolchain = &self.toolchains[&identity];
        let key = metadata::arguments(&command, &command.targets);
        if !self.answers.contains_key(&key) {
            let answer =
                WorkspaceAnswer::read(&command, &config, toolchain, &self.environment).map_err(|error| text(&error))?;
            self.answers.insert(key.clone(), answer);
        }
        let answer = &self.answers[&key];
        self.last = Some(key);
        let start = std::time::Instant::now();
        let metadata = Metadata::parse(&answer.metadata).map_err(|error| text(&error))?;
        let graph = plan(&metadata, &answer.files, &command, &config, toolchain).map_err(|error| text(&error));
        self.planning = start.elapsed();
        graph
    }

    /// Asks cargo, and compares.
    pub fn compare(&mut self, arguments: &[&str]) -> Verdict {
        let planned = self.plan(arguments);
        let (before, after) = match arguments.iter().position(|argument| *argument == "--") {
            Some(index) => arguments.split_at(index),
            None => (arguments, &[] as &[&str]),
        };
        let command: Vec<&str> = match before.first() {
            // Clippy is a check with another wrapper; `cargo run --unit-graph` panics (1.95), and builds the same.
            Some(&"clippy") => std::iter::once("check").chain(before[1..].iter().copied()).collect(),
            Some(&"run") => std::iter::once("build").chain(before[1..].iter().copied()).collect(),
            _ => before.to_vec(),
        };
        let output = Command::new("cargo")
            .args(&command)
            .args(["--unit-graph", "-Zunstable-options"])
            .args(after)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.environment.iter())
            .env("RUSTC_BOOTSTRAP", "1")
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => return Verdict::Different(format!("cargo did not start: {error}")),
        };
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        match (planned, output.status.success()) {
            (Err(reason), false) => Verdict::BothRefuse(reason),
            (Err(reason), true) => Verdict::Different(format!("no plan: {reason}")),
            (Ok(graph), false) if !graph.passed_through.is_empty() => {
                Verdict::BothRefuse(format!("{:?}", graph.passed_through))
            }
            (Ok(graph), true) if !graph.passed_through.is_empty() => {
                Verdict::PassedThrough(format!("{:?}", graph.passed_through))
            }
            (Ok(_), false) => Verdict::Different(format!("cargo refuses: {stderr}")),
            (Ok(graph), true) => match serde_json::from_slice(&output.stdout) {
                Ok(value) => compare(&graph, &value),
                Err(error) => Verdict::Different(format!("cargo's answer is no unit graph: {error}")),
            },
        }
    }
}

fn compare(graph: &UnitGraph, oracle: &Value) -> Verdict {
    let (theirs, their_roots) = of_oracle(oracle);
    let ours = of_plan(graph);
    let our_roots: Vec<usize> = graph.roots.iter().map(|root| root.0 as usize).collect();
    if let Some(problem) = order_problem(graph) {
        return Verdict::Different(problem);
    }
    let report = difference(&theirs, &ours);
    if !report.is_empty() {
        return Verdict::Different(report);
    }
    let named = |units: &[Described], roots: &[usize]| {
        let mut named: Vec<String> = roots.iter().map(|root| units[*root].text.clone()).collect();
        named.sort();
        named.dedup();
        named
    };
    if named(&theirs, &their_roots) != named(&ours, &our_roots) {
        return Verdict::Different("the roots differ".to_owned());
    }
    Verdict::Equal { units: ours.len() }
}

/// Dependencies must come first.
fn order_problem(graph: &UnitGraph) -> Option<String> {
    graph.iter().find_map(|(index, unit)| {
        let late = unit.dependencies.iter().find(|dependency| dependency.unit >= index)?;
        Some(format!("{} comes before {}", graph.describe(index), graph.describe(late.unit)))
    })
}

/// Units are compared with all that they depend on, as cargo tells equal-looking units apart by that alone.
fn difference(theirs: &[Described], ours: &[Described]) -> String {
    let signed = |units: &[Described]| -> BTreeMap<u64, (usize, usize)> {
        let mut known = vec![None; units.len()];
        let mut counted: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for unit in 0..units.len() {
            counted.entry(signature(units, unit, &mut known)).or_insert((unit, 0)).1 += 1;
        }
        counted
    };
    let (their_signatures, our_signatures) = (signed(theirs), signed(ours));
    if their_signatures.len() == our_signatures.len()
        && their_signatures.iter().zip(&our_signatures).all(|(a, b)| a.0 == b.0 && a.1.1 == b.1.1)
    {
        return String::new();
    }
    // What differs in itself, or in direct dependencies alone, says more than what differs deep down.
    let shallow = |units: &[Described]| -> BTreeMap<String, Vec<String>> {
        let mut shallow: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for unit in units {
            let mut edges: Vec<String> =
                unit.dependencies.iter().map(|(name, to)| format!("{name} = {}", units[*to].text)).collect();
            edges.sort();
            shallow.entry(unit.text.clone()).or_default().push(edges.join("\n"));
        }
        shallow.values_mut().for_each(|edges| edges.sort());
        shallow
    };
    let (their_shallow, our_shallow) = (shallow(theirs), shallow(ours));
    let mut lines = Vec::new();
    for text in their_shallow.keys().filter(|text| !our_shallow.contains_key(*text)) {
        lines.push(format!("  only cargo:  {text}"));
    }
    for text in our_shallow.keys().filter(|text| !their_shallow.contains_key(*text)) {
        lines.push(format!("  only planned: {text}"));
    }
    for (text, edges) in &their_shallow {
        if let Some(planned) = our_shallow.get(text)
            && planned != edges
        {
            let lines_of = |edges: &[String]| -> Vec<String> {
                edges.iter().flat_map(|edges| edges.lines()).map(str::to_owned).collect()
            };
            let (theirs, ours) = (lines_of(edges), lines_of(planned));
            let mut changes: Vec<String> = theirs
                .iter()
                .filter(|edge| !ours.contains(edge))
                .map(|edge| format!("\n    only cargo:   {edge}"))
                .collect();
            changes.extend(
                ours.iter().filter(|edge| !theirs.contains(edge)).map(|edge| format!("\n    only planned: {edge}")),
            );
            lines.push(format!("  edges of {text}, {} or {} times{}", edges.len(), planned.len(), changes.concat()));
        }
    }
    let total = lines.len();
    lines.truncate(12);
    format!("cargo has {} units, the plan {}; {total} differences\n{}", theirs.len(), ours.len(), lines.join("\n"))
}

fn signature(units: &[Described], unit: usize, known: &mut Vec<Option<u64>>) -> u64 {
    if let Some(signature) = known[unit] {
        return signature;
    }
    // The order counts, too.
    let edges: Vec<(String, u64)> =
        units[unit].dependencies.iter().map(|(name, to)| (name.clone(), signature(units, *to, known))).collect();
    let mut hasher = DefaultHasher::new();
    (&units[unit].text, edges).hash(&mut hasher);
    let signature = hasher.finish();
    known[unit] = Some(signature);
    signature
}

fn of_plan(graph: &UnitGraph) -> Vec<Described> {
    graph
        .iter()
        .map(|(_, unit)| {
            let package = graph.package(unit);
            let mode = match unit.mode {
                CompileMode::Build => "build",
                // Cargo prints both alike; they differ in what they depend on.
                CompileMode::Check { .. } => "check",
                CompileMode::Test => "test",
                CompileMode::Doc => "doc",
                CompileMode::RunCustomBuild => "run-custom-build",
            };
            let platform = match &unit.platform {
                CompilePlatform::Host => "host".to_owned(),
                CompilePlatform::Target { name, .. } => name.clone(),
            };
            let crate_types: Vec<&str> = unit.target.crate_types.iter().map(CrateType::as_str).collect();
            let kind = match unit.target.kind {
                TargetKind::Lib => "lib",
                TargetKind::Bin => "bin",
                TargetKind::Example => "example",
                TargetKind::Test => "test",
                TargetKind::Bench => "bench",
                TargetKind::CustomBuild => "custom-build",
            };
            let profile = &unit.profile;
            let profile = format!(
                "{} opt={} lto={} backend={:?} cgu={:?} debug={} split={:?} da={} oc={} rpath={} inc={} panic={} strip={} flags={:?}",
                profile.name,
                profile.opt_level,
                profile.lto,
                profile.codegen_backend,
                profile.codegen_units,
                profile.debuginfo,
                profile.split_debuginfo,
                profile.debug_assertions,
                profile.overflow_checks,
                profile.rpath,
                profile.incremental,
                profile.panic,
                profile.strip,
                profile.rustflags,
            );
            let features: Vec<&str> = unit.features.iter().map(String::as_str).collect();
            let text = format!(
                "{} | {kind} {} {} {} {} | {mode} | {platform} | [{}] | {profile}",
                package.id,
                unit.target.name,
                crate_types.join("+"),
                unit.target.source_path,
                unit.target.edition,
                features.join(","),
            );
            let dependencies = unit.dependencies.iter();
            let dependencies =
                dependencies.map(|edge| (edge.extern_crate_name.clone(), edge.unit.0 as usize)).collect();
            Described { text, dependencies }
        })
        .collect()
}

/// Cargo's units, documentation tests left out: they are no units of ours.
fn of_oracle(oracle: &Value) -> (Vec<Described>, Vec<usize>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let units = list(&oracle["units"]);
    let mut place = Vec::new();
    let mut next = 0;
    for unit in &units {
        let kept = unit["mode"] != "doctest";
        place.push(kept.then_some(next));
        next += usize::from(kept);
    }
    let described = units
        .iter()
        .filter(|unit| unit["mode"] != "doctest")
        .map(|unit| {
            let profile = &unit["profile"];
            let strip = &profile["strip"];
            let strip = strip.get("resolved").or_else(|| strip.get("deferred")).unwrap_or(strip);
            let strip = strip.get("Named").map_or("none".to_owned(), text);
            let truth = |key: &str| profile[key].as_bool().unwrap_or_default();
            let optional = |key: &str| profile[key].as_str().map(str::to_owned);
            let flags: Vec<String> = list(&profile["rustflags"]).iter().map(text).collect();
            let debug = profile["debuginfo"].as_str().map_or_else(|| profile["debuginfo"].to_string(), str::to_owned);
            let profile = format!(
                "{} opt={} lto={} backend={:?} cgu={:?} debug={debug} split={:?} da={} oc={} rpath={} inc={} panic={} strip={strip} flags={flags:?}",
                text(&profile["name"]),
                text(&profile["opt_level"]),
                text(&profile["lto"]),
                optional("codegen_backend"),
                profile["codegen_units"].as_u64(),
                optional("split_debuginfo"),
                truth("debug_assertions"),
                truth("overflow_checks"),
                truth("rpath"),
                truth("incremental"),
                text(&profile["panic"]),
            );
            let target = &unit["target"];
            let kind = target["kind"][0].as_str().unwrap_or_default();
            let others = ["bin", "example", "test", "bench", "custom-build"];
            let kind = if others.contains(&kind) { kind } else { "lib" };
            let crate_types: Vec<String> = list(&target["crate_types"]).iter().map(text).collect();
            let features: Vec<String> = list(&unit["features"]).iter().map(text).collect();
            let mode = match unit["mode"].as_str() {
                Some(mode) => mode.to_owned(),
                None => "?".to_owned(),
            };
            let platform = match &unit["platform"] {
                Value::Null => "host".to_owned(),
                // Specifications are named by their files.
                platform => match Utf8Path::new(&text(platform)) {
                    path if path.extension() == Some("json") => path.file_stem().unwrap_or_default().to_owned(),
                    triple => triple.to_string(),
                },
            };
            let text = format!(
                "{} | {kind} {} {} {} {} | {mode} | {platform} | [{}] | {profile}",
                text(&unit["pkg_id"]),
                text(&target["name"]),
                crate_types.join("+"),
                text(&target["src_path"]),
                text(&target["edition"]),
                features.join(","),
            );
            let dependencies = list(&unit["dependencies"])
                .iter()
                .filter_map(|edge| {
                    let to = usize::try_from(edge["index"].as_u64()?).ok()?;
                    Some((edge["extern_crate_name"].as_str()?.to_owned(), place[to]?))
                })
                .collect();
            Described { text, dependencies }
        })
        .collect();
    let roots = list(&oracle["roots"]);
    let roots = roots.iter().filter_map(|root| place[usize::try_from(root.as_u64()?).ok()?]).collect();
    (described, roots)
}
