//! A virtual machine that runs while its library is replaced.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use nixcache_tests::Compilers;

use crate::place::{Elixir, Server, checkout, machine, nif};

/// How often the library is replaced.
const TIMES: usize = 100;

/// Adds for each line that it reads; a line `load` loads the library anew, as an upgrade does.
const PROGRAM: &str = r#"
source = ~S'''
defmodule Demo.Native do
  @on_load :load
  def load, do: :erlang.load_nif('priv/native/demo_nif', 0)
  def words(_), do: :erlang.nif_error(:nif_not_loaded)
  def add(_, _), do: :erlang.nif_error(:nif_not_loaded)
end
'''
[{module, binary}] = Code.compile_string(source)
for line <- IO.stream(:stdio, :line) do
  if String.trim(line) == "load" do
    :code.purge(module)
    :code.delete(module)
    :code.purge(module)
    {:module, _} = :code.load_binary(module, 'demo', binary)
  end
  [{"a", 2}, {"b", 1}] = apply(module, :words, ["a b a"])
  IO.puts(apply(module, :add, [40, 2]))
end
"#;

#[test]
fn a_running_virtual_machine_survives_a_hundred_replacements() {
    let Some(elixir) = Elixir::new("a_running_virtual_machine_survives_a_hundred_replacements") else { return };
    let machine = machine();
    let workspace = checkout(&machine, "producer");
    let server = Server::new();
    // Two releases, whose results tell them apart.
    let project = machine.workspace("project");
    for (version, lock) in [("0.1.0", "old.lock"), ("0.2.0", "new.lock")] {
        if version == "0.2.0" {
            workspace.edit("native/demo_nif/Cargo.toml", "version = \"0.1.0\"", "version = \"0.2.0\"");
            workspace.edit(
                "native/Cargo.lock",
                "name = \"demo_nif\"\nversion = \"0.1.0\"",
                "name = \"demo_nif\"\nversion = \"0.2.0\"",
            );
            workspace.edit("native/demo_nif/src/lib.rs", "one + other", "one - other");
        }
        let path = project.path(lock);
        let publishing = server.publishing(&workspace);
        nif(&publishing, &["publish", "--lock", "--lock-file", path.to_str().unwrap()]).succeed();
    }
    let fetch = |lock: &str| {
        let call = project.nixcache(&["nif", "fetch", "--locked", "--lock-file", lock]);
        let call = call.env("NIXCACHE_CACHES", &server.url).env("NETRC", server.netrc(&server.reader));
        call.compilers(Compilers::Fail).succeed();
    };
    fetch("old.lock");
    project.write("program.exs", PROGRAM);
    let mut command = elixir.command(project.root(), "elixir", &["program.exs"]);
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut orders = running.stdin.take().unwrap();
    let mut answers = BufReader::new(running.stdout.take().unwrap()).lines();
    let mut ask = |order: &str| {
        writeln!(orders, "{order}").unwrap();
        answers.next().expect("the virtual machine lives").unwrap()
    };
    let mut loaded = "42";
    assert_eq!(ask("call"), loaded);
    let mut inodes = std::collections::BTreeSet::new();
    for number in 1..=TIMES {
        let new = number % 2 == 1;
        fetch(if new { "new.lock" } else { "old.lock" });
        let metadata = fs::metadata(project.path("priv/native/demo_nif.so")).unwrap();
        inodes.insert(std::os::unix::fs::MetadataExt::ino(&metadata));
        // What is loaded stays as it is until it is loaded anew.
        assert_eq!(ask("call"), loaded);
        if number % 5 == 0 {
            loaded = if new { "38" } else { "42" };
            assert_eq!(ask("load"), loaded);
        }
    }
    assert!(inodes.len() > 1, "each replacement is another file");
    drop(orders);
    assert!(running.wait().unwrap().success());
}
