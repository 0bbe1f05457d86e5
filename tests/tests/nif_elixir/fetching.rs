//! From the cache into a running Elixir: with our program, over HTTP, and as RustlerPrecompiled does it; and what
//! happens when something is wrong on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixcache_tests::{Compilers, Machine, Workspace, walk};

use crate::place::{Elixir, Server, archive_file, checkout, fail, host, machine, succeed};

/// The exit code for NIFs that are refused or can't be had.
const NIF: i32 = 79;

/// A server with the NIF of a checkout, and another checkout with the lock and nothing that was built.
struct Published {
    server: Server,
    project: Workspace,
    _machine: Machine,
}

impl Published {
    fn new() -> Self {
        Self::with(&[])
    }

    /// The same, published with more arguments.
    fn with(arguments: &[&str]) -> Self {
        let machine = machine();
        let producer = checkout(&machine, "producer");
        let server = Server::new();
        server.publish(&producer, arguments);
        let project = checkout(&machine, "project");
        fs::copy(producer.path("nixcache.lock"), project.path("nixcache.lock")).unwrap();
        Self { server, project, _machine: machine }
    }

    /// Mix, which knows the server by our program's settings and by those of the package.
    fn mix(&self, elixir: &Elixir, arguments: &[&str]) -> Command {
        let mut command = elixir.command(self.project.root(), "mix", arguments);
        command
            .env("NIXCACHE_CACHES", &self.server.url)
            .env("NETRC", self.server.netrc(&self.server.reader))
            .env("NIXCACHE_NIF_URL", format!("{}/nif/main", self.server.url))
            .env("NIXCACHE_NIF_TOKEN", &self.server.reader);
        command
    }

    /// `cargo nixcache nif fetch`, on a machine with a store of its own and without compilers.
    fn fetch(&self, store: &Path, arguments: &[&str]) -> nixcache_tests::Invocation {
        let call = self.project.nixcache(&[&["nif", "fetch"], arguments].concat());
        let call = call.env("NIXCACHE_CACHES", &self.server.url).env("NIXCACHE_STORE", store);
        call.env("NETRC", self.server.netrc(&self.server.reader)).compilers(Compilers::Fail)
    }

    fn store(&self, name: &str) -> PathBuf {
        self.project.machine().root().join(name)
    }

    fn library(&self) -> PathBuf {
        self.project.path("priv/native/demo_nif.so")
    }

    fn clean(&self) {
        for directory in ["_build", "priv"] {
            let _ = fs::remove_dir_all(self.project.path(directory));
        }
    }

    /// The file that the server has of the library's NAR.
    fn nar_file(&self) -> PathBuf {
        let lock = self.project.read("nixcache.lock");
        let path = lock.lines().find_map(|line| line.strip_prefix("path = \"/nix/store/")).unwrap();
        let narinfo = self.server.path("data").join(format!("{}.narinfo", &path[..32]));
        let narinfo = fs::read_to_string(narinfo).unwrap();
        let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
        self.server.path("data").join(url)
    }
}

/// Replaces a file's bytes by what `change` makes of them.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn mix_compile_fetches_and_the_nif_is_called() {
    let Some(elixir) = Elixir::new("mix_compile_fetches_and_the_nif_is_called") else { return };
    let published = Published::new();

    // By our program.
    elixir.with_program(true);
    let output = succeed(&mut published.mix(&elixir, &["test"]));
    assert!(output.contains("2 tests, 0 failures"), "{output}");
    assert!(output.contains("Installed 1 files"), "{output}");
    let modified = || fs::metadata(published.library()).unwrap().modified().unwrap();
    let before = modified();
    let output = succeed(&mut published.mix(&elixir, &["compile"]));
    assert!(!output.contains("Installed"), "nothing was to be done: {output}");
    assert_eq!(modified(), before);
    // Again, where the store has it and nothing can be reached.
    published.clean();
    succeed(published.mix(&elixir, &["compile"]).env("NIXCACHE_CACHES", "http://127.0.0.1:1"));
    assert!(published.library().is_file());

    // Over HTTP, with the names of older releases of rustler.
    published.clean();
    elixir.with_program(false);
    published.project.edit("mix.exs", "layout: :rustler", "layout: :both");
    published.project.edit("lib/demo/native.ex", "priv/native/demo_nif", "priv/native/libdemo_nif");
    let output = succeed(&mut published.mix(&elixir, &["test"]));
    assert!(output.contains("2 tests, 0 failures") && output.contains("Fetching demo_nif"), "{output}");
    let output = succeed(&mut published.mix(&elixir, &["compile"]));
    assert!(!output.contains("Fetching"), "{output}");

    // A file that somebody has changed is put right.
    change(&published.library(), |bytes| bytes[100] ^= 1);
    succeed(&mut published.mix(&elixir, &["compile"]));
    assert_eq!(
        fs::read(published.library()).unwrap(),
        fs::read(published.project.path("priv/native/libdemo_nif.so")).unwrap()
    );
}

/// Does what RustlerPrecompiled 0.8 does with its `base_url`, checksum file and archive, by Erlang's own means.
const CLIENT: &str = r#"
[file, checksums] = System.argv()
{:ok, _} = Application.ensure_all_started(:inets)
{url, headers} = case CargoNixcache.url(file) do
  {url, headers} -> {url, headers}
  url -> {url, []}
end
headers = Enum.map(headers, fn {name, value} -> {String.to_charlist(name), value} end)
case :httpc.request(:get, {String.to_charlist(url), headers}, [], [body_format: :binary]) do
  {:ok, {{_, 200, _}, _, body}} ->
    {%{^file => "sha256:" <> expected}, _} = Code.eval_file(checksums)
    if Base.encode16(:crypto.hash(:sha256, body), case: :lower) != expected, do: raise "wrong checksum"
    File.mkdir_p!("priv/native")
    :ok = :erl_tar.extract({:binary, body}, [:compressed, cwd: 'priv/native'])
  {:ok, {{_, status, _}, _, body}} ->
    raise "status #{status}: #{body}"
end
defmodule Demo.Native do
  @on_load :load
  def load, do: :erlang.load_nif('priv/native/' ++ String.to_charlist(Path.rootname(hd(System.argv()), ".so.tar.gz")), 0)
  def words(_), do: :erlang.nif_error(:nif_not_loaded)
  def add(_, _), do: :erlang.nif_error(:nif_not_loaded)
end
IO.inspect(Demo.Native.words("a b a"))
"#;

#[test]
fn a_client_such_as_rustler_precompiled_is_served() {
    let Some(elixir) = Elixir::new("a_client_such_as_rustler_precompiled_is_served") else { return };
    let published = Published::new();
    let project = &published.project;
    project.nixcache(&["nif", "checksums", "--module", "Demo.Native"]).compilers(Compilers::Fail).succeed();
    let checksums = "checksum-Elixir.Demo.Native.exs";
    let served = Command::new("curl")
        .args(["-sf", "-H", &format!("Authorization: Bearer {}", published.server.reader)])
        .arg(format!("{}/nif/main/checksums.exs?module=Demo.Native", published.server.url))
        .output();
    if let Ok(served) = served {
        assert_eq!(String::from_utf8(served.stdout).unwrap(), project.read(checksums));
    }
    project.write("client.exs", CLIENT);
    let package = project.machine().root().join("elixir");
    succeed(&mut elixir.command(&package, "mix", &["compile"]));
    let beams = package.join("_build/test/lib/cargo_nixcache/ebin");
    let file = archive_file("0.1.0");
    let client = |file: &str| {
        let mut command =
            elixir.command(project.root(), "elixir", &["-pa", beams.to_str().unwrap(), "client.exs", file, checksums]);
        command.env("NIXCACHE_NIF_URL", format!("{}/nif/main", published.server.url));
        command.env("NIXCACHE_NIF_TOKEN", &published.server.reader);
        command
    };
    let output = succeed(&mut client(&file));
    assert!(output.contains(r#"[{"a", 2}, {"b", 1}]"#), "{output}");

    let output = fail(client(&file).env("NIXCACHE_NIF_TOKEN", "nixcache_wrong"));
    assert!(output.contains("status 401: this needs a token"), "{output}");
    let output = fail(&mut client(&archive_file("0.1.1")));
    assert!(output.contains("status 404: there is no such file"), "{output}");
    let right = project.read(checksums);
    let wrong: String = right.chars().map(|digit| if digit == '0' { '1' } else { digit }).collect();
    project.write(checksums, wrong.replace("v1.1.1", "v0.1.0"));
    assert!(fail(&mut client(&file)).contains("wrong checksum"));

    // The global cache, filled without the network by whoever has the lock.
    let out = project.path("global");
    let arguments = ["--locked", "--layout", "precompiled", "--out", out.to_str().unwrap()];
    published.fetch(&published.store("global-store"), &arguments).succeed();
    let archive = published.server.path("data/nif/main").join(&file);
    assert!(fs::read(out.join(&file)).unwrap() == fs::read(archive).unwrap());
    assert_eq!(walk(&out).len(), 1);
}

#[test]
fn what_is_not_what_was_locked_is_not_installed() {
    let mut published = Published::new();
    let nar = published.nar_file();
    let original = fs::read(&nar).unwrap();
    let library = published.library();
    type Change = fn(&mut Vec<u8>);
    let tampered: [(&str, Change); 3] = [
        ("changed", |bytes| *bytes = lies(bytes)),
        ("cut off", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
    ];
    for (number, (what, how)) in tampered.into_iter().enumerate() {
        change(&nar, how);
        let outcome = published.fetch(&published.store(&format!("store-{number}")), &["--locked"]).fail();
        assert_eq!(outcome.status.code(), Some(NIF), "{what}: {outcome}");
        assert!(outcome.stderr.contains("error: get demo_nif 0.1.0"), "{what}: {outcome}");
        assert!(!library.exists(), "{what}");
        fs::write(&nar, &original).unwrap();
    }

    // Another target, NIF version, variant or crate than what is locked.
    let store = published.store("store");
    for (arguments, reason) in [
        (&["--target", "aarch64-apple-darwin"][..], "it has nothing of demo_nif for aarch64-apple-darwin"),
        (&["--nif-version", "2.14"], "and NIF version 2.14"),
        (&["--variant", "avx2"], "it has nothing of demo_nif"),
        (&["other_nif"], "other_nif is not in it"),
    ] {
        let outcome = published.fetch(&store, &[&["--locked"], arguments].concat()).fail();
        assert!(outcome.status.code() == Some(NIF) && outcome.stderr.contains(reason), "{outcome}");
    }

    // A lock that doesn't fit the sources.
    let project = published.project.clone();
    project.edit("native/demo_nif/Cargo.toml", "version = \"0.1.0\"", "version = \"0.2.0\"");
    let outcome = published.fetch(&store, &["--locked"]).fail();
    let stale = "nixcache.lock: it has demo_nif 0.1.0, and native/demo_nif/Cargo.toml is 0.2.0";
    assert!(outcome.status.code() == Some(NIF) && outcome.stderr.contains(stale), "{outcome}");
    project.edit("native/demo_nif/Cargo.toml", "version = \"0.2.0\"", "version = \"0.1.0\"");

    // A server that is down; then one that is back; then none, and the store has it.
    published.server.stop();
    let outcome = published.fetch(&store, &["--locked"]).fail();
    assert_eq!(outcome.status.code(), Some(NIF), "{outcome}");
    assert!(!library.exists());
    let outcome = published.fetch(&store, &["--locked"]).env("NIXCACHE_CACHES", "").fail();
    assert!(outcome.stderr.contains("no cache is set"), "{outcome}");
    published.server.start();
    published.fetch(&store, &["--locked", "--all-targets"]).succeed();
    published.server.stop();
    fs::remove_dir_all(project.path("priv")).unwrap();
    published.fetch(&store, &["--locked", "--offline", "--target", host()]).succeed();
    assert!(library.is_file());
    let listed = project.nixcache(&["nif", "list"]).env("NIXCACHE_STORE", &store).succeed().stdout;
    assert!(listed.contains("in the store  demo_nif 0.1.0 nif-2.15-"), "{listed}");

    // A store that was changed is no proof either.
    fs::remove_dir_all(project.path("priv")).unwrap();
    for blob in walk(&store.join("v1/blobs")) {
        change(&blob, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    }
    let outcome = published.fetch(&store, &["--locked", "--offline"]).fail();
    assert!(outcome.stderr.contains("offline: neither the store nor a cache in a directory has it"), "{outcome}");
    assert!(!library.exists());
}

/// A NAR of the same size with other content, in the same packing.
fn lies(file: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[test]
fn mix_compile_says_what_is_wrong_and_installs_nothing() {
    let Some(elixir) = Elixir::new("mix_compile_says_what_is_wrong_and_installs_nothing") else { return };
    elixir.with_program(false);
    let mut published = Published::new();
    let project = published.project.clone();
    let archive = published.server.path("data/nif/main").join(archive_file("0.1.0"));
    let original = fs::read(&archive).unwrap();
    let wrong = |published: &Published, reason: &str| {
        let output = fail(&mut published.mix(&elixir, &["compile"]));
        assert!(output.contains(reason), "{output}");
        assert!(!output.contains(&published.server.reader), "a token is shown: {output}");
        assert!(!published.library().exists());
    };
    change(&archive, |bytes| bytes[20] ^= 1);
    wrong(&published, "is not what was locked");
    change(&archive, |bytes| bytes.truncate(1000));
    wrong(&published, "cut off or is another file");
    fs::remove_file(&archive).unwrap();
    wrong(&published, "answers with 404: it isn't published there");
    fs::write(&archive, &original).unwrap();

    project.edit("native/demo_nif/Cargo.toml", "version = \"0.1.0\"", "version = \"0.2.0\"");
    wrong(&published, "nixcache.lock is stale: it has demo_nif 0.1.0");
    project.edit("native/demo_nif/Cargo.toml", "version = \"0.2.0\"", "version = \"0.1.0\"");
    let output = fail(published.mix(&elixir, &["compile"]).env("NIXCACHE_NIF_TOKEN", "nixcache_wrong"));
    assert!(output.contains("answers with 401") && !output.contains("nixcache_wrong"), "{output}");
    published.server.stop();
    wrong(&published, "can't reach http://127.0.0.1:");
    fs::remove_file(project.path("nixcache.lock")).unwrap();
    wrong(&published, "there is no nixcache.lock");
    // Somebody who builds the NIF is left alone.
    succeed(published.mix(&elixir, &["compile"]).env("NIXCACHE_NIF_SKIP", "1"));
}

#[test]
fn a_library_of_other_sources_does_not_stay_in_place_unnoticed() {
    let Some(elixir) = Elixir::new("a_library_of_other_sources_does_not_stay_in_place_unnoticed") else { return };
    let published = Published::with(&["--source-version"]);
    let project = &published.project;
    assert!(project.read("nixcache.lock").contains("version = \"0.1.0-s"), "{}", project.read("nixcache.lock"));
    elixir.with_program(false);
    let http = || published.mix(&elixir, &["compile"]);
    succeed(&mut http());
    assert!(published.library().is_file());
    // What doesn't belong to it; and what git passes over.
    project.edit("native/demo_nif/README.md", "The NIF", "The old NIF");
    project.edit("native/tally_cli/src/main.rs", "Counts", "Numbers");
    succeed(&mut http());
    project.commit();
    project.write("native/demo_nif/notes.tmp", "not ours");
    project.write(".git/info/exclude", "*.tmp\n");
    succeed(&mut http());
    // What does. The library is there and is what was locked, and it isn't that of these sources.
    for (file, from, to) in [
        ("native/demo_nif/src/lib.rs", "one + other", "one - other"),
        ("native/tally/src/lib.rs", "or_default() += 1", "or_default() += 2"),
        ("native/Cargo.lock", "version = 4", "version = 4\n"),
    ] {
        project.edit(file, from, to);
        elixir.with_program(false);
        let output = fail(&mut http());
        assert!(output.contains("the sources of demo_nif aren't those of 0.1.0-s"), "{file}: {output}");
        elixir.with_program(true);
        let output = fail(&mut http());
        assert!(output.contains("nixcache.lock: it has demo_nif 0.1.0-s"), "{file}: {output}");
        project.edit(file, to, from);
        succeed(&mut http());
    }
    // A lock that doesn't say where the sources are is left to the program.
    let lock = project.read("nixcache.lock");
    project.write("nixcache.lock", lock.split("[[nif.demo_nif.sources]]").next().unwrap());
    succeed(&mut http());
    elixir.with_program(false);
    assert!(fail(&mut http()).contains("doesn't say which sources demo_nif 0.1.0-s"));
    // Without sources there is nothing to compare.
    fs::remove_dir_all(project.path("native")).unwrap();
    succeed(&mut http());
}

#[test]
fn a_version_that_cannot_be_read_is_not_taken_for_the_locked_one() {
    let Some(elixir) = Elixir::new("a_version_that_cannot_be_read_is_not_taken_for_the_locked_one") else { return };
    let published = Published::new();
    let project = &published.project;
    let compile = |program: bool| {
        elixir.with_program(program);
        published.mix(&elixir, &["compile"])
    };
    let (manifest, workspace) = ("native/demo_nif/Cargo.toml", "native/Cargo.toml");
    succeed(&mut compile(false));
    // The workspace says it.
    project.edit(manifest, "version = \"0.1.0\"", "version.workspace = true");
    succeed(&mut compile(false));
    project.edit(workspace, "version = \"0.1.0\"", "version = \"0.2.0\"");
    for program in [false, true] {
        let output = fail(&mut compile(program));
        assert!(output.contains("it has demo_nif 0.1.0, and native/demo_nif/Cargo.toml is 0.2.0"), "{output}");
    }
    // As nobody writes it: with our program it is read, and without it is nothing that could be believed.
    project.edit(manifest, "version.workspace = true", "version = \"\"\"0.1.0\"\"\"");
    succeed(&mut compile(true));
    let output = fail(&mut compile(false));
    assert!(output.contains("the version of demo_nif can't be read from native/demo_nif/Cargo.toml"), "{output}");
    project.edit(manifest, "0.1.0", "0.2.0");
    assert!(fail(&mut compile(true)).contains("it has demo_nif 0.1.0, and native/demo_nif/Cargo.toml is 0.2.0"));
    assert!(published.library().is_file());
}

#[test]
fn the_package_passes_its_own_tests() {
    let Some(elixir) = Elixir::new("the_package_passes_its_own_tests") else { return };
    let machine = Machine::new();
    checkout(&machine, "project");
    let package = machine.root().join("elixir");
    let output = succeed(&mut elixir.command(&package, "mix", &["test"]));
    assert!(output.contains(" 0 failures"), "{output}");
    succeed(&mut elixir.command(&package, "mix", &["format", "--check-formatted"]));
    succeed(&mut elixir.command(&package, "mix", &["compile", "--force", "--warnings-as-errors"]));
}
