defmodule CargoNixcache.FetchTest do
  # Variables of the environment are changed.
  use ExUnit.Case, async: false

  import CargoNixcache.Support
  alias CargoNixcache.{Error, Fetch, Lock}

  @library String.duplicate("library", 1000)

  setup do
    System.delete_env("NIXCACHE_NIF_TOKEN")
    System.delete_env("NIXCACHE_NIF_TOKEN_FILE")
    archive = archive(file_name(), @library)
    %{archive: archive, out: Path.join(temporary(), "priv/native")}
  end

  defp fetch(archive, out, answers, locked_archive \\ nil) do
    files = Lock.parse!(lock(@library, locked_archive || archive))["demo_nif"].files
    Fetch.by_http!(files, out, :both, serve(answers) <> "/nif/main")
  end

  defp message(function), do: assert_raise(Error, function).message

  test "a library is fetched, checked and put in its place", %{archive: archive, out: out} do
    System.put_env("NIXCACHE_NIF_TOKEN", "nixcache_token")
    assert fetch(archive, out, [ok(archive)]) == :ok
    assert_received {:asked, head}
    assert head =~ "GET /nif/main/#{file_name()}.tar.gz HTTP/1.1"
    assert head =~ ~r/authorization: Bearer nixcache_token\r\n/i
    for name <- ["demo_nif.so", "libdemo_nif.so"], do: assert(File.read!(Path.join(out, name)) == @library)
    assert Enum.sort(File.ls!(out)) == ["demo_nif.so", "libdemo_nif.so"]
    files = Lock.parse!(lock(@library, archive))["demo_nif"].files
    assert Fetch.in_place?(files, out, :both)
    File.write!(Path.join(out, "demo_nif.so"), String.upcase(@library))
    refute Fetch.in_place?(files, out, :both)
  end

  test "who has the old file open keeps it", %{out: out} do
    path = Path.join(out, "demo_nif.so")
    Fetch.replace!(path, "one")
    {:ok, open} = File.open(path, [:read])
    Fetch.replace!(path, "other")
    assert {IO.read(open, :line), File.read!(path)} == {"one", "other"}
  end

  test "what is not what was locked is not installed", %{archive: archive, out: out} do
    other = archive(file_name(), String.upcase(@library))
    changed = archive(file_name(), "x")
    outside = archive("../../" <> file_name(), @library)

    # The library isn't the one in the lock, though the archive is.
    assert message(fn -> fetch(changed, out, [ok(changed)]) end) =~ "not what was locked"
    # The archive leads out of its directory.
    assert message(fn -> fetch(outside, out, [ok(outside)]) end) =~ "something else"
    # It was cut off, or is another one.
    assert message(fn -> fetch(archive, out, [ok(binary_part(archive, 0, 20))]) end) =~ "cut off"
    padded = binary_part(other <> archive, 0, byte_size(archive))
    assert message(fn -> fetch(archive, out, [ok(padded)]) end) =~ "not what was locked"
    refute File.exists?(Path.join(out, "demo_nif.so"))
    refute File.exists?(Path.join(Path.dirname(Path.dirname(out)), file_name()))
  end

  test "errors are short, and show no secrets", %{archive: archive, out: out} do
    System.put_env("NIXCACHE_NIF_TOKEN", "nixcache_token")

    for {status, what} <- [{401, "asks for a token"}, {403, "does not allow"}, {404, "isn't published"}, {500, "500"}] do
      message = message(fn -> fetch(archive, out, [status(status)]) end)
      assert message =~ what
      refute message =~ ~r/secret|nixcache_token/
    end

    files = Lock.parse!(lock(@library, archive))["demo_nif"].files
    message = message(fn -> Fetch.by_http!(files, out, :rustler, "http://user:password@127.0.0.1:1/x?token=y") end)
    assert message =~ "can't reach http://127.0.0.1:1/x"
    refute message =~ ~r/user|password|token=y|nixcache_token/
    assert message(fn -> Fetch.by_http!(files, out, :rustler, "file:///etc") end) =~ "must begin with https"
  end

  test "a redirect is not followed: the token stays where it was meant for", %{archive: archive, out: out} do
    System.put_env("NIXCACHE_NIF_TOKEN", "nixcache_token")
    elsewhere = serve([ok(archive)])
    message = message(fn -> fetch(archive, out, [status(302, "location: #{elsewhere}/x\r\n")]) end)
    assert message =~ "redirects are not followed"
    assert_received {:asked, _}
    refute_received {:asked, _}
  end

  test "RustlerPrecompiled is told address and token" do
    System.put_env("NIXCACHE_NIF_URL", "https://cache.example.org/nif/main/")
    on_exit(fn -> System.delete_env("NIXCACHE_NIF_URL") end)
    assert CargoNixcache.url("x.tar.gz") == "https://cache.example.org/nif/main/x.tar.gz"
    path = Path.join(temporary(), "token")
    File.write!(path, "nixcache_file\n")
    System.put_env("NIXCACHE_NIF_TOKEN_FILE", path)
    assert {"https://" <> _, [{"authorization", "Bearer nixcache_file"}]} = CargoNixcache.url("x.tar.gz")
    System.put_env("NIXCACHE_NIF_TOKEN_FILE", path <> "x")
    assert_raise Error, ~r/can't read the token/, fn -> CargoNixcache.url("x.tar.gz") end
  end
end
