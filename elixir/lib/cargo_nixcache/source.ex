defmodule CargoNixcache.Source do
  @moduledoc false
  # Whether the sources of a NIF are those that the lock was written for, where there are sources: without cargo, and
  # without our program.
  #
  # A version is compared with the manifest's. A version with the content of the sources in it (`0.1.0-s1a2b3c4d5e6f`)
  # is made again: the lock names the directories that belong to it, and the digest is that of `nif/source.rs` in the
  # core. What can't be told for certain is never taken for the same.

  alias CargoNixcache.{Error, Git, Known}

  # Files of the workspace that count beside the packages.
  @of_workspace ["Cargo.lock", "Cargo.toml", "rust-toolchain", "rust-toolchain.toml"]

  # With more files than this, git is asked first what belongs to nobody: a package at the root of a project has all
  # that was ever built beside it.
  @many 1000

  @doc """
  Compares what is locked with the sources.

  `:fits` is said also where there are none; `{:stale, message}`, where they are of another version; `{:unclear,
  message}`, where they differ as far as can be told from here.
  """
  def compare(lock, crate, nif, known \\ nil) do
    root = lock |> Path.expand() |> Path.dirname()

    case nif.manifest && File.read(Path.join(root, nif.manifest)) do
      {:ok, text} ->
        manifest = Path.join(root, nif.manifest)

        case version(manifest, text) do
          {:ok, version} -> of_version(root, crate, nif, version, known)
          :unclear -> {:unclear, "the version of #{crate} can't be read from #{nif.manifest}"}
        end

      nil ->
        :fits

      {:error, :enoent} ->
        :fits

      {:error, reason} ->
        raise Error, "can't read #{nif.manifest}: #{:file.format_error(reason)}"
    end
  end

  defp of_version(root, crate, nif, version, known) do
    case source_of(nif.version, version) do
      :other ->
        {:stale,
         "nixcache.lock is stale: it has #{crate} #{nif.version}, and #{nif.manifest} is #{version}. " <>
           "`cargo nixcache nif lock` writes it anew, once the NIF is published"}

      nil ->
        :fits

      _ when nif.sources == [] ->
        {:unclear, "nixcache.lock doesn't say which sources #{crate} #{nif.version} is made of"}

      digest ->
        if same?(digest, Path.join(root, nif.manifest), Enum.map(nif.sources, &Path.expand(&1, root)), known) do
          :fits
        else
          {:unclear,
           "nixcache.lock is stale: the sources of #{crate} aren't those of #{nif.version}. " <>
             "`cargo nixcache nif lock` writes it anew, once the NIF is published"}
        end
    end
  end

  # The digest in a locked version, if the manifest's version is the rest of it; `nil`, if it is all of it.
  defp source_of(locked, version) do
    [base | build] = String.split(version, "+", parts: 2)
    build = Enum.map_join(build, &("+" <> &1))

    case Regex.run(~r/\A#{Regex.escape(base)}(?:[-.]s([0-9a-f]{12}))?#{Regex.escape(build)}\z/, locked) do
      [_] -> nil
      [_, digest] -> digest
      nil -> :other
    end
  end

  # The digest of all files; and if those are many or others, of those that git doesn't pass over.
  defp same?(expected, manifest, directories, known) do
    expected == digest(manifest, directories, [], @many, known) or
      expected == digest(manifest, directories, Enum.flat_map(directories, &Git.ignored/1), :infinity, known)
  end

  @doc false
  def digest(manifest, directories, passed_over, most, known \\ nil) do
    root = workspace_root(Path.dirname(manifest))
    passed_over = MapSet.new(passed_over)
    files = Enum.reduce_while(directories, [], &gather(&1, &2, passed_over, most))

    if files != :many do
      shared = @of_workspace |> Enum.map(&Path.join(root, &1)) |> Enum.filter(&File.regular?/1)

      files = (files ++ shared) |> Enum.map(&{seen_from(root, &1), &1}) |> Enum.uniq() |> Enum.sort()
      binary_part(Known.sha256(known, &feed(files, &1)), 0, 12)
    end
  end

  defp feed(files, state) do
    Enum.reduce(files, state, fn {name, path}, state ->
      state |> Known.update(<<byte_size(name)::little-64>> <> name) |> Known.whole(content(path))
    end)
  end

  defp gather(directory, files, passed_over, most) do
    files = walk(directory, files, passed_over)
    if length(files) > most, do: {:halt, :many}, else: {:cont, files}
  end

  defp walk(directory, files, passed_over) do
    case File.ls(directory) do
      {:ok, names} -> Enum.reduce(names, files, &entry(Path.join(directory, &1), &1, &2, passed_over))
      {:error, reason} -> raise Error, "can't list #{directory}: #{:file.format_error(reason)}"
    end
  end

  defp entry(path, name, files, passed_over) do
    if MapSet.member?(passed_over, path) do
      files
    else
      case File.lstat(path) do
        {:ok, %File.Stat{type: :directory}} ->
          other = name in [".git", "target"] or File.regular?(Path.join(path, "Cargo.toml"))
          if other, do: files, else: walk(path, files, passed_over)

        {:ok, %File.Stat{type: :regular}} ->
          if Path.extname(name) == ".md", do: files, else: [path | files]

        _ ->
          files
      end
    end
  end

  defp content(path) do
    case File.read(path) do
      {:ok, bytes} -> bytes
      {:error, reason} -> raise Error, "can't read #{path}: #{:file.format_error(reason)}"
    end
  end

  # The nearest directory above with a lock file; without any the package's own.
  defp workspace_root(start) do
    Enum.find(above(start), start, &File.regular?(Path.join(&1, "Cargo.lock")))
  end

  defp above(directory) do
    case Path.dirname(directory) do
      ^directory -> [directory]
      parent -> [directory | above(parent)]
    end
  end

  defp seen_from(root, path) do
    {root, path} = apart(Path.split(root), Path.split(path))
    Enum.join(Enum.map(root, fn _ -> ".." end) ++ path, "/")
  end

  defp apart([same | root], [same | path]), do: apart(root, path)
  defp apart(root, path), do: {root, path}

  # The version that a manifest says, or the workspace for it.
  defp version(manifest, text) do
    with {:ok, values} <- values(text) do
      case {values["package.version"], values["package.version.workspace"]} do
        {nil, "true"} ->
          inherited(above(Path.dirname(manifest)))

        {value, nil} when is_binary(value) ->
          if value =~ ~r/\A\{\s*workspace\s*=\s*true\s*\}\z/,
            do: inherited(above(Path.dirname(manifest))),
            else: string(value)

        _ ->
          :unclear
      end
    end
  end

  defp inherited([]), do: :unclear

  defp inherited([directory | above]) do
    with {:ok, text} <- File.read(Path.join(directory, "Cargo.toml")),
         {:ok, values} <- values(text) do
      case values["workspace.package.version"] do
        nil -> inherited(above)
        value -> string(value)
      end
    else
      {:error, _} -> inherited(above)
      :unclear -> :unclear
    end
  end

  # The values that are on the line of their key, as they are written, by their whole keys. Not all of TOML is read: of
  # a file that could say a version in a way that isn't seen here, nothing is.
  defp values(text) do
    lines = text |> String.split(["\r\n", "\n"]) |> Enum.map(&String.trim/1)
    {values, _} = Enum.reduce(lines, {%{}, ""}, &line/2)

    unclear =
      text =~ ~r/"""|'''/ or text =~ ~r/^\s*\[?\s*["'](?:package|version|workspace)["']\s*[.=\]]/m or
        Enum.any?(["package", "workspace", "workspace.package"], &Map.has_key?(values, &1))

    if unclear, do: :unclear, else: {:ok, values}
  end

  defp line("[" <> _ = line, {values, _}) do
    case Regex.run(~r/\A\[\s*([A-Za-z0-9_.\s-]+?)\s*\]\s*(?:#.*)?\z/, line) do
      [_, table] -> {values, plain(table) <> "."}
      nil -> {values, "?."}
    end
  end

  defp line(line, {values, table}) do
    case Regex.run(~r/\A([A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=\s*(.*)\z/, line) do
      # A key that is there twice is in something that goes over several lines.
      [_, key, value] -> {Map.update(values, table <> plain(key), comment(value), fn _ -> :twice end), table}
      nil -> {values, table}
    end
  end

  defp plain(name), do: String.replace(name, ~r/\s+/, "")

  # Without the comment after it. A value with `#` in it is no version.
  defp comment(value), do: value |> String.replace(~r/#.*\z/, "") |> String.trim()

  defp string(value) do
    case is_binary(value) && Regex.run(~r/\A(?:"([^"\\]+)"|'([^']+)')\z/, value) do
      [_, text] -> {:ok, text}
      [_, "", text] -> {:ok, text}
      _ -> :unclear
    end
  end
end
