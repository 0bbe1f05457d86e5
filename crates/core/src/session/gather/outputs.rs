//! The files of one finished unit: rustc's outputs, and what a build script printed and put into `OUT_DIR`. Each is
//! searched for paths, normalised where it is text, and put into the store.
//!
//! Called by gather alone. Refuses files that lie where a hit would not put them.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::binary_facts::BinaryFacts;
use crate::artifact::dynamic::{Way, inputs_of_binary};
use crate::artifact::scan::{FileReferences, HideError, PLACEHOLDER_START, Scanner, hide_in_text, named_roots};
use crate::artifact::{ArtifactFile, FileClass, RunOutput};
use crate::cargo::dep_info::RustcDepInfo;
use crate::cargo::directives::{Directives, is_obeyed};
use crate::cargo::record::InvocationRecord;
use crate::store::{BlobRef, Placement, hash_and_scan, hash_file};
use crate::unit::{CrateType, PlannedUnit, TargetKind};

use super::super::changes::change_time;
use super::super::matching::absolute;
use super::super::restore::{fixed_time, is_final, set_time};
use super::{Gatherer, NotKept};

impl Gatherer<'_, '_> {
    fn scanner(&self) -> &'_ Scanner {
        self.wary.as_ref().unwrap_or(self.plain)
    }

    /// Takes the outputs of rustc. Returns what rustc says that it read.
    pub(super) fn rustc(&mut self, record: &InvocationRecord) -> Result<RustcDepInfo, NotKept> {
        let directory =
            self.address.layout.output_directory(&self.address.package, self.address.hash, &self.address.stem);
        let stem = record.invocation.file_stem().ok_or(NotKept::Unmatched)?;
        let makefile = directory.join(format!("{stem}.d"));
        let text = String::from_utf8(read(&makefile)?)
            .map_err(|_| NotKept::Unstable { what: format!("{makefile} is not UTF-8") })?;
        let dep_info = RustcDepInfo::parse(&text).map_err(NotKept::DepInfo)?;
        let values = dep_info.environment.iter().filter_map(|(_, value)| value.as_deref());
        let mut named = named_roots(self.context.roots, values);
        // What a script generated may name other places than `OUT_DIR`, and travels with placeholders for them.
        for file in dep_info.files.iter().map(|file| absolute(&record.directory, file)) {
            if file.starts_with(self.address.layout.build_directory()) {
                named.extend(named_roots(self.context.roots, [read(&file)?]));
            }
        }
        if !named.is_empty() {
            self.wary = Some(Scanner::wary(self.context.roots, &named));
        }
        let mut outputs: BTreeSet<Utf8PathBuf> = BTreeSet::new();
        for output in &dep_info.outputs {
            let output = absolute(&record.directory, output);
            if output.extension() == Some("d") {
                continue;
            }
            // A file that lies elsewhere (`--emit asm=/x`) would not be there after a hit.
            if output.parent() != Some(&directory) || !output.is_file() {
                return Err(NotKept::Unstable {
                    what: format!("rustc wrote {output}, which is not where cargo wants it"),
                });
            }
            outputs.insert(output);
        }
        if outputs.is_empty() {
            return Err(NotKept::Unstable { what: "rustc names no output".to_owned() });
        }
        outputs.extend(debug_files(&directory, &stem, self.unit)?);
        for output in outputs {
            let relative = output.strip_prefix(&directory).unwrap_or(&output).to_owned();
            self.file(&output, relative, false)?;
        }
        Ok(dep_info)
    }

    /// Refuses a run that wrote anything outside `OUT_DIR`: restored, it would not write it. Files count that
    /// changed while it ran, in the workspace for scripts of its own packages, and beside cargo's final files.
    pub(super) fn refuse_strays(&self, in_workspace: bool) -> Result<(), NotKept> {
        let files = self.address.layout.run_files(&self.address.package, self.address.hash);
        let time = |path: &Utf8Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let began = time(&files.invoked).unwrap_or(self.context.started);
        // Cargo sets the output's modification time back; its change time is when the script had ended.
        let ended = fs::metadata(&files.stdout).map(|metadata| change_time(&metadata));
        let ended = ended.map_err(|source| NotKept::File { path: files.stdout.clone(), source })?;
        let stray = |path: &Utf8Path, metadata: &fs::Metadata| {
            let changed = change_time(metadata);
            let is_stray = metadata.is_file() && changed >= began && changed <= ended;
            is_stray.then(|| NotKept::Unstable { what: format!("its build script ran while {path} was written") })
        };
        let layout = &self.address.layout;
        for directory in [layout.final_directory(), layout.profile_root()] {
            let walk = ignore::WalkBuilder::new(&directory)
                .standard_filters(false)
                .filter_entry(|entry| {
                    let name = entry.file_name().to_str().unwrap_or_default();
                    let is_cargos = matches!(name, "deps" | "build" | "incremental" | "examples" | ".fingerprint");
                    !(entry.depth() == 1 && is_cargos)
                })
                .build();
            for entry in walk.flatten() {
                let (Some(path), Ok(metadata)) = (Utf8Path::from_path(entry.path()), entry.metadata()) else {
                    continue;
                };
                let name = path.file_name().unwrap_or_default();
                // Cargo links its final files, and writes locks and makefiles.
                let is_cargos = links(&metadata) > 1 || name.starts_with('.') || name.ends_with(".d");
                if !is_cargos && let Some(error) = stray(path, &metadata) {
                    return Err(error);
                }
            }
        }
        if in_workspace {
            let outputs = [layout.build_directory().to_owned(), layout.target_directory().to_owned()];
            let walk = ignore::WalkBuilder::new(self.context.workspace_root)
                .standard_filters(false)
                .filter_entry(move |entry| {
                    let is_output =
                        Utf8Path::from_path(entry.path()).is_some_and(|path| outputs.iter().any(|o| o == path));
                    !is_output && entry.file_name() != ".git" && entry.file_name() != "node_modules"
                })
                .build();
            for entry in walk.flatten() {
                if let (Some(path), Ok(metadata)) = (Utf8Path::from_path(entry.path()), entry.metadata())
                    && let Some(error) = stray(path, &metadata)
                {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes a build script's output and `OUT_DIR`.
    pub(super) fn run(&mut self) -> Result<(RunOutput, Directives), NotKept> {
        let files = self.address.layout.run_files(&self.address.package, self.address.hash);
        let stdout = read(&files.stdout)?;
        let directives = Directives::parse(&stdout, None).map_err(NotKept::Directives)?;
        let stdout = self.script_output(&stdout)?;
        let stderr = match fs::read(&files.stderr) {
            Ok(stderr) => self.lossy_text(&stderr),
            Err(_) => String::new(),
        };
        self.files.push(files.stdout.clone());
        if files.out.is_symlink() {
            return Err(NotKept::Unstable { what: format!("{} is no directory of its own", files.out) });
        }
        if files.out.is_dir() {
            self.directory(&files.out, Utf8Path::new(""))?;
        }
        if self.old_times {
            set_time(&files.stdout, fixed_time())
                .map_err(|source| NotKept::File { path: files.stdout.clone(), source })?;
        }
        Ok((RunOutput { stdout, stderr }, directives))
    }

    /// A build script's output. Directives matter, and bind the unit where they cannot be relocated. The rest is for
    /// people: the commands that the `cc` crate ran, and the like.
    fn script_output(&mut self, bytes: &[u8]) -> Result<String, NotKept> {
        let mut text = String::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match std::str::from_utf8(line) {
                Ok(line) if is_obeyed(line) => text.push_str(&self.hidden(line)?),
                Ok(_) => text.push_str(&self.lossy_text(line)),
                // Cargo passes over lines that are not UTF-8. What is kept is UTF-8, and it would obey them.
                Err(_) => {}
            }
        }
        Ok(text)
    }

    fn directory(&mut self, root: &Utf8Path, relative: &Utf8Path) -> Result<(), NotKept> {
        let directory = root.join(relative);
        let failed = |source| NotKept::File { path: directory.clone(), source };
        for entry in directory.read_dir_utf8().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = relative.join(entry.file_name());
            if kind.is_dir() {
                self.directories.push(path.clone());
                self.directory(root, &path)?;
            } else if kind.is_file() {
                self.file(entry.path(), path, true)?;
            } else if kind.is_symlink() {
                let target = entry.path().read_link_utf8().map_err(failed)?;
                // Where directories lie elsewhere, a relative link leads to another place.
                if let Some(Way::Out { relative: true, .. }) = Way::of(&[root], entry.path()) {
                    self.bound.extend(self.context.roots.iter().map(|(kind, _)| kind));
                }
                let target = self.hidden(target.as_str())?;
                self.links.push((path, target));
            } else {
                return Err(NotKept::Unstable { what: format!("{} is no ordinary file", entry.path()) });
            }
        }
        Ok(())
    }

    /// Takes one file: hashed and searched in one reading, then inserted.
    fn file(&mut self, path: &Utf8Path, relative: Utf8PathBuf, generated: bool) -> Result<(), NotKept> {
        let Some(lease) = self.lease else {
            // Only what dependents are pinned to is needed.
            if !is_final(self.unit) {
                let hashed = hash_file(path).map_err(NotKept::of_store)?;
                let blob = BlobRef { digest: hashed.digest, size: hashed.size, executable: false };
                self.artifact_files.push(ArtifactFile { path: relative, blob, class: FileClass::Own });
            }
            self.files.push(path.to_owned());
            return Ok(());
        };
        let mut raw = self.scanner().raw();
        let hashed = hash_and_scan(path, 0, |chunk| raw.feed(chunk.bytes)).map_err(NotKept::of_store)?;
        let references =
            if raw.met() { self.scanner().examine_file(path).map_err(NotKept::Scan)? } else { FileReferences::None };
        let is_probe = generated && relative.extension() == Some("rmeta");
        let executable = is_executable(path).map_err(|source| NotKept::File { path: path.to_owned(), source })?;
        if !is_probe {
            self.bound.extend(references.bound_to());
        }
        if let FileReferences::Text(_) = references
            && generated
        {
            let text = self.text(read(path)?, path)?;
            let blob = lease.insert_bytes(text.as_bytes(), executable).map_err(NotKept::of_store)?;
            self.artifact_files.push(ArtifactFile { path: relative, blob, class: FileClass::Text });
            self.files.push(path.to_owned());
            return Ok(());
        }
        if let FileReferences::Text(roots) = references {
            // Rustc's own outputs are never rewritten.
            self.bound.extend(roots);
        }
        if (!generated || has_object_name(path))
            && let Some(facts) = BinaryFacts::read(path).map_err(NotKept::Binary)?
        {
            // Shared libraries of the build itself lie where the dynamic linker is told to look by cargo.
            let provided = |name: &str| self.address.layout.profile_root().join("deps").join(name).exists();
            self.binary_inputs.extend(inputs_of_binary(&facts, provided, self.context.roots));
        }
        let class = if !generated && is_replaced(self.unit, path) { FileClass::Replaced } else { FileClass::Own };
        let share = class == FileClass::Replaced && self.old_times;
        let placement = if share { Placement::Link } else { Placement::Copy };
        let inserted = lease.insert_file(path, Some(&hashed), placement, executable).map_err(NotKept::of_store)?;
        if self.old_times && !is_final(self.unit) {
            set_time(path, fixed_time()).map_err(|source| NotKept::File { path: path.to_owned(), source })?;
        }
        self.artifact_files.push(ArtifactFile { path: relative, blob: inserted.blob, class });
        self.files.push(path.to_owned());
        Ok(())
    }

    pub(super) fn diagnostics(&mut self, path: &Utf8Path) -> Result<Option<String>, NotKept> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(self.lossy_text(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NotKept::File { path: path.to_owned(), source }),
        }
    }

    /// Text that matters: what cannot be relocated binds the unit.
    fn text(&mut self, bytes: Vec<u8>, path: &Utf8Path) -> Result<String, NotKept> {
        let text = String::from_utf8(bytes).map_err(|_| NotKept::Unstable { what: format!("{path} is not UTF-8") })?;
        self.hidden(&text)
    }

    fn hidden(&mut self, text: &str) -> Result<String, NotKept> {
        // Whatever looks like a placeholder is taken for one when the text is put back.
        if text.contains(PLACEHOLDER_START) {
            return Err(NotKept::Text(HideError::HoldsPlaceholder));
        }
        match self.plain.examine_text(text) {
            FileReferences::Bound(roots) => {
                self.bound.extend(roots);
                Ok(text.to_owned())
            }
            _ => hide_in_text(text, self.context.roots).map_err(NotKept::Text),
        }
    }

    /// Text for people: where it cannot be relocated, it is left as it is.
    fn lossy_text(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).replace(PLACEHOLDER_START, "@ nixcache{");
        hide_in_text(&text, self.context.roots).unwrap_or(text)
    }
}

pub(super) fn read(path: &Utf8Path) -> Result<Vec<u8>, NotKept> {
    fs::read(path).map_err(|source| NotKept::File { path: path.to_owned(), source })
}

/// Whether cargo, rustc and the linkers put a new file in the place of this one and never write into it.
/// Measured: see `docs/correctness.md`.
fn is_replaced(unit: &PlannedUnit, path: &Utf8Path) -> bool {
    match path.extension() {
        Some("rlib" | "rmeta") => true,
        _ => unit.target.kind == TargetKind::CustomBuild || unit.target.crate_types == [CrateType::ProcMacro],
    }
}

fn has_object_name(path: &Utf8Path) -> bool {
    matches!(path.extension(), Some("so" | "dylib" | "dll" | "exe") | None)
}

/// Split debug information lies beside the output and is named by nobody.
fn debug_files(directory: &Utf8Path, stem: &str, unit: &PlannedUnit) -> Result<Vec<Utf8PathBuf>, NotKept> {
    let split = unit.profile.split_debuginfo.is_some() || cfg!(any(windows, target_os = "macos"));
    if !split && !unit.rustflags.iter().any(|flag| flag.contains("split-debuginfo")) {
        return Ok(Vec::new());
    }
    let failed = |source| NotKept::File { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in directory.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let ours = name.strip_prefix("lib").unwrap_or(name).strip_prefix(stem);
        let is_debug = [".dwo", ".dwp", ".pdb", ".o"].iter().any(|suffix| name.ends_with(suffix));
        if ours.is_some_and(|rest| rest.starts_with('.')) && is_debug && entry.path().is_file() {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}

#[cfg(unix)]
fn is_executable(path: &Utf8Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_path: &Utf8Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn links(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_metadata: &fs::Metadata) -> u64 {
    1
}
