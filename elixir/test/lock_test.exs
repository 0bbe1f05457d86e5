defmodule CargoNixcache.LockTest do
  use ExUnit.Case, async: true

  import CargoNixcache.Support
  alias CargoNixcache.{Error, Lock}

  defp files(changes), do: Lock.parse!(lock("library", "archive", changes))["demo_nif"].files

  test "a lock file is read, and other sections are passed over" do
    assert %{"demo_nif" => nif} = Lock.parse!(lock("library", "archive"))
    assert nif.manifest == "native/demo_nif/Cargo.toml"
    assert [file] = nif.files
    assert {file.archive, file.library_size, file.variant} == {file_name() <> ".tar.gz", 7, nil}
    assert file.library_hash == sha256("library")
    assert Lock.library_file(file) == file_name()
    assert Lock.native_files(file, :both) == ["demo_nif.so", "libdemo_nif.so"]
  end

  test "names that could lead elsewhere are refused" do
    text = lock("library", "archive")

    for {from, to} <- [
          {"archive = \"lib", "archive = \"../lib"},
          {"target = \"x86", "target = \"../x86"},
          {"version = \"0.1.0\"", "version = \"0.1.0/../..\""},
          {"[nif.demo_nif]", "[nif.demo-nif]"},
          {"[[nif.demo_nif.files]]", "[[nif.\"demo_nif\".files]]"},
          {"library-hash = \"sha256:", "library-hash = \"md5:"},
          {"library-size = 7", "library-size = [7]"},
          {"version = 1\n", "version = 2\n"},
          {"target = ", "targets = "},
          {"nar-size = 1\n", "nar-size = 1\nnar-size = 1\n"}
        ] do
      assert String.contains?(text, from), from
      assert_raise Error, fn -> Lock.parse!(String.replace(text, from, to)) end
    end

    assert_raise Error, fn -> Lock.read!("/nowhere/nixcache.lock") end
  end

  test "the newest NIF version that can be loaded is chosen" do
    files =
      for nif <- ["2.15", "2.17"] do
        hd(files(nif: nif, archive: String.replace(file_name(), "2.15", nif) <> ".tar.gz"))
      end

    chosen = fn version -> Lock.choose!("demo_nif", files, "x86_64-unknown-linux-gnu", version, nil).nif_version end
    assert {chosen.("2.15"), chosen.("2.16"), chosen.("2.17"), chosen.("2.99")} == {"2.15", "2.15", "2.17", "2.17"}
    assert_raise Error, ~r/nothing of demo_nif/, fn -> chosen.("2.14") end

    assert_raise Error, ~r/aarch64/, fn ->
      Lock.choose!("demo_nif", files, "aarch64-apple-darwin", "2.17", nil)
    end
  end
end
