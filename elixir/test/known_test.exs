defmodule CargoNixcache.KnownTest do
  use ExUnit.Case, async: true

  alias CargoNixcache.Known

  setup do
    directory = Path.join(System.tmp_dir!(), "known-#{System.unique_integer([:positive])}-#{System.pid()}")
    on_exit(fn -> File.rm_rf!(directory) end)
    {:ok, path: Path.join(directory, "remembered")}
  end

  defp feed(bytes), do: fn state -> Known.update(state, bytes) end
  defp sha256(bytes), do: Known.hex(:crypto.hash(:sha256, bytes))

  test "a digest is that of the bytes, remembered or not", %{path: path} do
    assert Known.sha256(nil, feed("one")) == sha256("one")

    for _ <- 1..2 do
      known = Known.load(path)
      assert Known.sha256(known, feed("one")) == sha256("one")
      assert Known.sha256(known, feed("two")) == sha256("two")

      assert Known.sha256(known, &(&1 |> Known.update("a") |> Known.whole("b"))) ==
               sha256("a" <> :crypto.hash(:sha256, "b"))

      assert Known.sha256(known, fn _ -> nil end) == nil
      assert Known.save(known, path) == :ok
    end
  end

  test "what is remembered is what was asked for", %{path: path} do
    known = Known.load(path)
    for bytes <- ["one", "two"], do: Known.sha256(known, feed(bytes))
    Known.save(known, path)
    written = File.stat!(path)

    # Nothing new: nothing is written.
    known = Known.load(path)
    Known.sha256(known, feed("one"))
    Known.save(known, path)
    assert File.stat!(path).inode == written.inode

    known = Known.load(path)
    for bytes <- ["one", "three"], do: Known.sha256(known, feed(bytes))
    Known.save(known, path)
    remembered = path |> File.read!() |> :erlang.binary_to_term()
    assert Enum.sort(Map.values(remembered)) == Enum.sort([sha256("one"), sha256("three")])
    assert File.ls!(Path.dirname(path)) == ["remembered"]
  end

  test "a file that can't be read is as good as none", %{path: path} do
    File.mkdir_p!(Path.dirname(path))

    for bytes <- ["", "nonsense", :erlang.term_to_binary([1]), :erlang.term_to_binary(%{1 => 2})] do
      File.write!(path, bytes)
      assert Known.sha256(Known.load(path), feed("one")) == sha256("one")
    end
  end
end
