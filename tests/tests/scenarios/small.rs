//! The smallest workspace with a program, a member and a published dependency: three units. It prints `1`.

use nixcache_tests::{Machine, Workspace};

pub(crate) fn app(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package("part", "", "pub fn part() -> u32 { 1 }\n");
    workspace.package(
        "",
        "[dependencies]\npart = { path = \"part\" }\nitoa = \"1\"\n[workspace]\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(part::part())) }\n",
    );
    workspace
}
