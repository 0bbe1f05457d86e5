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

  test "no more is read than was locked", %{archive: archive, out: out} do
    # It says another size: nothing of it is read, so it need not even be sent.
    announced = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n"
    assert message(fn -> fetch(archive, out, [announced]) end) =~ "has 1000000000000 bytes, and #{byte_size(archive)}"
    # It says none, and sends on and on.
    endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    piece = "10000\r\n" <> String.duplicate("x", 0x10000) <> "\r\n"
    assert message(fn -> fetch(archive, out, [{endless, piece}]) end) =~ "has more bytes"
    # Whoever sends it is told to stop.
    assert_receive :refused, 10_000
    # It says the size, and the connection breaks.
    broken = binary_part(ok(archive), 0, byte_size(ok(archive)) - 10)
    assert message(fn -> fetch(archive, out, [broken]) end) =~ "can't reach"
    # In pieces of any size it is as good.
    chunks = for <<chunk::binary-size(7) <- archive>>, into: "", do: "7\r\n" <> chunk <> "\r\n"
    rest = binary_part(archive, byte_size(archive) - rem(byte_size(archive), 7), rem(byte_size(archive), 7))
    last = if rest == "", do: "", else: "#{byte_size(rest)}\r\n#{rest}\r\n"
    assert fetch(archive, out, [endless <> chunks <> last <> "0\r\n\r\n"]) == :ok
    assert File.read!(Path.join(out, "demo_nif.so")) == @library
  end

  test "a token is not sent where others can read it", %{archive: archive, out: out} do
    files = Lock.parse!(lock(@library, archive))["demo_nif"].files
    on_exit(fn -> System.delete_env("NIXCACHE_NIF_ALLOW_HTTP") end)
    System.put_env("NIXCACHE_NIF_TOKEN", "nixcache_token")
    System.put_env("NIXCACHE_NIF_URL", "http://cache.invalid/nif/main")
    on_exit(fn -> System.delete_env("NIXCACHE_NIF_URL") end)

    for fetch <- [fn -> Fetch.by_http!(files, out, :rustler, nil) end, fn -> CargoNixcache.url("x") end] do
      message = message(fetch)
      assert message =~ "the token for http://cache.invalid/nif/main would be sent as plain text"
      refute message =~ "nixcache_token"
    end

    for host <- ["127.0.0.1:1", "127.9.9.9", "localhost:8080", "[::1]"] do
      System.put_env("NIXCACHE_NIF_URL", "http://#{host}/nif/main")
      assert {_, [{"authorization", _}]} = CargoNixcache.url("x")
    end

    for host <- ["127.0.0.1.example.org", "10.0.0.1", "[::2]", "localhost.example.org", "0.0.0.0"] do
      System.put_env("NIXCACHE_NIF_URL", "http://#{host}/nif/main")
      assert_raise Error, fn -> CargoNixcache.url("x") end
      System.put_env("NIXCACHE_NIF_ALLOW_HTTP", "1")
      assert {_, [{"authorization", _}]} = CargoNixcache.url("x")
      System.delete_env("NIXCACHE_NIF_ALLOW_HTTP")
    end

    # Without a token there is nothing to hide, unless the address has it.
    System.delete_env("NIXCACHE_NIF_TOKEN")
    assert CargoNixcache.url("x") == "http://0.0.0.0/nif/main/x"
    System.put_env("NIXCACHE_NIF_URL", "http://user:password@10.0.0.1/nif/main")
    message = message(fn -> CargoNixcache.url("x") end)
    assert message =~ "the password for http://10.0.0.1/nif/main"
    refute message =~ ":password"
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
