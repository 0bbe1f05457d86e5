defmodule CargoNixcache.Fetch do
  @moduledoc false
  # Puts libraries where they are loaded from: by the command line program where it is installed, else over HTTP.
  #
  # A virtual machine may have a library mapped, and dies if its bytes change. So no file is ever written to: a new one
  # is made beside it and takes its name.

  alias CargoNixcache.{Error, Http, Known, Lock, Settings}

  @doc "Whether every file is in place with the bytes that are locked."
  def in_place?(files, out, layout, known \\ nil) do
    Enum.all?(files, fn file ->
      file |> Lock.native_files(layout) |> Enum.all?(&there?(Path.join(out, &1), file, known))
    end)
  end

  defp there?(path, file, known) do
    case File.stat(path) do
      {:ok, %File.Stat{type: :regular, size: size}} when size == file.library_size ->
        Known.sha256(known, &feed(path, &1)) == file.library_hash

      _ ->
        false
    end
  end

  # Each time something is compiled: so by few modules that would have to be loaded, and in pieces.
  defp feed(path, state) do
    case :file.open(String.to_charlist(path), [:read, :raw, :binary]) do
      {:ok, file} ->
        try do
          pieces(file, state)
        after
          :file.close(file)
        end

      {:error, _} ->
        nil
    end
  end

  defp pieces(file, state) do
    case :file.read(file, 1_048_576) do
      {:ok, piece} -> pieces(file, Known.update(state, piece))
      :eof -> state
      {:error, _} -> nil
    end
  end

  @doc "Fetches by the command line program."
  def by_program!(program, arguments) do
    {output, status} = System.cmd(program, ["nixcache" | arguments], stderr_to_stdout: true)
    if status != 0, do: raise(Error, "cargo-nixcache failed (#{status}):\n#{String.trim(output)}")
    String.trim(output)
  end

  @doc "Fetches over HTTP. Nothing is installed unless all of it came and is right."
  def by_http!(files, out, layout, url) do
    base = Settings.url!(url)
    token = Settings.token!(base)
    libraries = Enum.map(files, &{&1, library!(&1, base, token)})

    for {file, library} <- libraries, name <- Lock.native_files(file, layout) do
      path = Path.join(out, name)
      unless there?(path, file, nil), do: replace!(path, library)
    end

    :ok
  end

  defp library!(file, base, token) do
    archive = Http.get!(CargoNixcache.address(base, file.archive), token, file.archive_size)

    if digest(archive) != file.archive_hash do
      raise Error, "#{file.archive} is not what was locked: it was changed, or another file was published"
    end

    expected = String.to_charlist(Lock.library_file(file))

    # Into memory: nothing in an archive says where anything is written.
    case :erl_tar.extract({:binary, archive}, [:memory, :compressed]) do
      {:ok, [{^expected, library}]} ->
        if digest(library) != file.library_hash,
          do: raise(Error, "the library in #{file.archive} is not what was locked")

        library

      {:ok, _} ->
        raise Error, "#{file.archive} holds something else than #{expected}"

      {:error, _} ->
        raise Error, "#{file.archive} can't be unpacked"
    end
  end

  defp digest(bytes), do: Known.hex(:crypto.hash(:sha256, bytes))

  @doc false
  def replace!(path, bytes) do
    directory = Path.dirname(path)
    random = Known.hex(:crypto.strong_rand_bytes(8))
    temporary = Path.join(directory, ".nixcache-" <> random)

    written =
      with :ok <- File.mkdir_p(directory),
           :ok <- File.write(temporary, bytes, [:exclusive, :sync]),
           :ok <- File.chmod(temporary, 0o755),
           do: File.rename(temporary, path)

    with {:error, reason} <- written do
      File.rm(temporary)
      raise Error, "can't write #{path}: #{:file.format_error(reason)}"
    end
  end
end
