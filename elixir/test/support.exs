defmodule CargoNixcache.Support do
  @moduledoc false
  # A lock file with one library, its archive, and a server that gives what it is told to.

  def archive(name, library) do
    path = Path.join(temporary(), "archive.tar.gz")
    :ok = :erl_tar.create(String.to_charlist(path), [{String.to_charlist(name), library}], [:compressed])
    File.read!(path)
  end

  def temporary do
    path = Path.join(System.tmp_dir!(), "cargo_nixcache-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(path)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  def sha256(bytes), do: Base.encode16(:crypto.hash(:sha256, bytes), case: :lower)

  @file_name "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so"

  def lock(library, archive, changes \\ []) do
    values =
      Keyword.merge(
        [version: "0.1.0", archive: @file_name <> ".tar.gz", target: "x86_64-unknown-linux-gnu", nif: "2.15"],
        changes
      )

    """
    # Written by `cargo nixcache`: what this project uses, by content. Put it under version control.
    version = 1

    [nif.demo_nif]
    manifest = "native/demo_nif/Cargo.toml"
    namespace = "main"
    version = "#{values[:version]}"

    [[nif.demo_nif.files]]
    archive = "#{values[:archive]}"
    archive-hash = "sha256:#{sha256(archive)}"
    archive-nar-hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    archive-nar-size = 1
    archive-path = "/nix/store/00000000000000000000000000000000-x"
    archive-size = #{byte_size(archive)}
    library-hash = "sha256:#{sha256(library)}"
    library-size = #{byte_size(library)}
    nar-hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    nar-size = 1
    nif-version = "#{values[:nif]}"
    path = "/nix/store/00000000000000000000000000000000-x"
    target = "#{values[:target]}"

    [[units.x86_64-linux."build --config=[x]"]]
    anything = { is = ["kept"] }
    paths = [
      "x",
    ]
    """
  end

  def file_name, do: @file_name

  @doc """
  A server that gives the answers one after the other, and tells the test what it was asked. An answer is its bytes, or
  its beginning and what is sent again and again after it.
  """
  def serve(answers) do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}, reuseaddr: true])
    {:ok, port} = :inet.port(listener)
    test = self()

    spawn_link(fn ->
      for answer <- answers do
        {:ok, socket} = :gen_tcp.accept(listener)
        send(test, {:asked, head(socket, "")})

        case answer do
          {head, piece} ->
            :ok = :gen_tcp.send(socket, head)
            on_and_on(socket, piece)
            send(test, :refused)

          answer ->
            :gen_tcp.send(socket, answer)
        end

        :gen_tcp.close(socket)
      end

      # The listener goes with its owner.
      Process.sleep(:infinity)
    end)

    "http://127.0.0.1:#{port}"
  end

  # Until nobody takes it any more.
  defp on_and_on(socket, piece) do
    with :ok <- :gen_tcp.send(socket, piece), do: on_and_on(socket, piece)
  end

  defp head(socket, read) do
    if String.ends_with?(read, "\r\n\r\n") do
      read
    else
      {:ok, bytes} = :gen_tcp.recv(socket, 0)
      head(socket, read <> bytes)
    end
  end

  def ok(body), do: "HTTP/1.1 200 OK\r\ncontent-length: #{byte_size(body)}\r\nconnection: close\r\n\r\n" <> body

  def status(status, headers \\ ""),
    do: "HTTP/1.1 #{status} No\r\n#{headers}content-length: 6\r\nconnection: close\r\n\r\nsecret"
end
