defmodule CargoNixcache.SourceTest do
  use ExUnit.Case, async: true

  import CargoNixcache.Support
  alias CargoNixcache.Source

  setup do
    root = temporary()

    write(root, %{
      "native/Cargo.toml" => "[workspace]\nmembers = ['*']\n",
      "native/Cargo.lock" => "version = 4\n",
      "native/demo_nif/Cargo.toml" => "[package]\nname = 'demo_nif'\nversion = '0.1.0'\n",
      "native/demo_nif/README.md" => "text",
      "native/demo_nif/src/lib.rs" => "code",
      "native/demo_nif/inner/Cargo.toml" => "[package]",
      "native/tally/Cargo.toml" => "[package]",
      "native/tally/.hidden" => "counts",
      "native/other/src/lib.rs" => "code"
    })

    %{root: root}
  end

  defp write(root, files) do
    for {path, text} <- files do
      path = Path.join(root, path)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
    end
  end

  defp digest(root) do
    directories = Enum.map(["native/demo_nif", "native/tally"], &Path.join(root, &1))
    Source.digest(Path.join(root, "native/demo_nif/Cargo.toml"), directories, [], :infinity)
  end

  defp compare(root, version) do
    nif = %{version: version, manifest: "native/demo_nif/Cargo.toml", sources: ["native/demo_nif", "native/tally"]}
    Source.compare(Path.join(root, "nixcache.lock"), "demo_nif", nif)
  end

  test "the digest is that of the program", %{root: root} do
    # Calculated from the description in nif/source.rs: names from the workspace's root, sorted, and hashes.
    files = ~w(Cargo.lock Cargo.toml demo_nif/Cargo.toml demo_nif/src/lib.rs tally/.hidden tally/Cargo.toml)

    whole =
      for file <- files, into: "" do
        content = File.read!(Path.join([root, "native", file]))
        <<byte_size(file)::little-64>> <> file <> :crypto.hash(:sha256, content)
      end

    assert digest(root) == String.slice(sha256(whole), 0, 12)
  end

  test "what belongs to the NIF makes a lock stale, and nothing else does", %{root: root} do
    locked = "0.1.0-s" <> digest(root)
    assert compare(root, locked) == :fits

    for path <- ~w(native/demo_nif/README.md native/other/src/lib.rs native/demo_nif/inner/x native/demo_nif/target/x) do
      write(root, %{path => "changed"})
      assert compare(root, locked) == :fits, path
    end

    for path <- ~w(demo_nif/src/lib.rs demo_nif/build.rs tally/.hidden tally/new/file Cargo.lock rust-toolchain) do
      before = File.read(Path.join([root, "native", path]))
      write(root, %{("native/" <> path) => "changed"})
      assert {:unclear, message} = compare(root, locked), path
      assert message =~ "the sources of demo_nif aren't those of #{locked}"

      case before do
        {:ok, text} -> write(root, %{("native/" <> path) => text})
        {:error, :enoent} -> File.rm!(Path.join([root, "native", path]))
      end

      assert compare(root, locked) == :fits
    end

    # A lock that doesn't say what belongs to it.
    nif = %{version: locked, manifest: "native/demo_nif/Cargo.toml", sources: []}
    assert {:unclear, _} = Source.compare(Path.join(root, "nixcache.lock"), "demo_nif", nif)
    # No sources, as in a container.
    File.rm_rf!(Path.join(root, "native"))
    assert compare(root, locked) == :fits
  end

  @tag :git
  test "what git passes over is passed over", %{root: root} do
    locked = "0.1.0-s" <> digest(root)
    write(root, %{"native/demo_nif/built/library.o" => "built", "native/tally/notes.tmp" => "notes"})
    assert {:unclear, _} = compare(root, locked)
    {_, 0} = System.cmd("git", ["init", "--quiet", root])
    write(root, %{".git/info/exclude" => "built/\n*.tmp\n"})
    assert compare(root, locked) == :fits
    write(root, %{"native/tally/notes.txt" => "notes"})
    assert {:unclear, _} = compare(root, locked)
  end

  test "a version is read in all the ways that people write it", %{root: root} do
    read = fn manifest ->
      write(root, %{"native/demo_nif/Cargo.toml" => manifest})
      compare(root, "0.1.0")
    end

    workspace = "[workspace]\nmembers = ['*']\n[workspace.package]\nversion = "
    write(root, %{"native/Cargo.toml" => workspace <> "'0.1.0' # for all\n"})

    for manifest <- [
          "[package]\nversion = \"0.1.0\"\n",
          "[ package ] # ours\nname='x'\nversion='0.1.0' # the first\n[dependencies]\nversion = '9'\n",
          "[lib]\nversion = '9'\n[package]\r\nkeywords = [\n  \"version\",\n]\r\nversion = \"0.1.0\"\r\n",
          "package.version = '0.1.0'\n",
          "[package]\nversion.workspace = true\n",
          "[package]\nversion = { workspace = true }\n",
          "[workspace.package]\nversion = '0.1.0'\n[package]\nversion.workspace = true\n"
        ] do
      assert read.(manifest) == :fits, manifest
      assert {:stale, message} = read.(String.replace(manifest, "0.1.0", "0.2.0")) |> stale(manifest, root, workspace)
      assert message =~ "nixcache.lock is stale: it has demo_nif 0.1.0, and native/demo_nif/Cargo.toml is 0.2.0"
      write(root, %{"native/Cargo.toml" => workspace <> "'0.1.0' # for all\n"})
    end

    # What can't be read for certain is not taken for the same.
    for manifest <- [
          "package = { version = '0.1.0' }\n",
          "[\"package\"]\nversion = '0.1.0'\n",
          "[package]\n\"version\" = '0.1.0'\n",
          "[package]\ndescription = \"\"\"\nversion = '0.1.0'\n\"\"\"\n",
          "[package]\nversion = '0.1.0'\nmetadata.x = {\nversion = '0.2.0'\n}\n",
          "[package]\nname = 'x'\n",
          "[package]\nversion = \"0.1\\u002e0\"\n",
          ""
        ] do
      assert {:unclear, message} = read.(manifest)
      assert message =~ "the version of demo_nif can't be read", manifest
    end
  end

  # Where the workspace says the version, it is the workspace's that is changed.
  defp stale(:fits, manifest, root, workspace) do
    assert manifest =~ "workspace"
    write(root, %{"native/Cargo.toml" => workspace <> "'0.2.0'\n"})
    compare(root, "0.1.0")
  end

  defp stale(answer, _, _, _), do: answer

  test "the sources in a version come before what a build adds to it", %{root: root} do
    write(root, %{"native/demo_nif/Cargo.toml" => "[package]\nversion = '1.0.0-rc.1+linux'\n"})
    assert compare(root, "1.0.0-rc.1+linux") == :fits
    assert compare(root, "1.0.0-rc.1.s#{digest(root)}+linux") == :fits
    assert {:unclear, _} = compare(root, "1.0.0-rc.1.s000000000000+linux")
    assert {:stale, _} = compare(root, "1.0.0-rc.2.s#{digest(root)}+linux")
    assert {:stale, _} = compare(root, "1.0.0-rc.1.s#{digest(root)}")
  end
end
