defmodule CargoNixcache.Lock do
  @moduledoc false
  # Reads `nixcache.lock`. Every line of it is a table or one text or number, so no reader of TOML is needed; what has
  # another form is an error, in the sections that matter here.

  alias CargoNixcache.Error

  @version "1"

  defmodule File do
    @moduledoc false
    defstruct [
      :crate,
      :version,
      :nif_version,
      :target,
      :variant,
      :archive,
      :archive_hash,
      :archive_size,
      :library_hash,
      :library_size
    ]
  end

  @doc "The NIFs of a lock file: a map from crates to their manifests, versions, sources and files."
  def read!(path) do
    case Elixir.File.read(path) do
      {:ok, text} -> parse!(text)
      {:error, :enoent} -> raise Error, "there is no #{path}: `cargo nixcache nif lock` writes it"
      {:error, reason} -> raise Error, "can't read #{path}: #{:file.format_error(reason)}"
    end
  end

  @doc false
  def parse!(text) do
    {tables, _} =
      text
      |> String.split(["\r\n", "\n"])
      |> Enum.reduce({%{[] => [%{}]}, []}, &line!/2)

    case tables[[]] do
      [%{"version" => @version}] ->
        :ok

      _ ->
        raise Error, "nixcache.lock is of another version than #{@version}: this package is too old or too new for it"
    end

    for {["nif", crate], [nif]} <- tables, into: %{} do
      many = fn kind -> Enum.reverse(Map.get(tables, ["nif", crate, kind], [])) end

      {crate!(crate),
       %{
         manifest: nif["manifest"],
         version: fetch!(nif, "version"),
         # These are only read, and may be above: path dependencies can be anywhere.
         sources: for(%{"path" => path} <- many.("sources"), do: path),
         files: Enum.map(many.("files"), &file!(crate, nif, &1))
       }}
    end
  end

  defp line!(line, {tables, current}) do
    case String.trim(line) do
      "" -> {tables, current}
      "#" <> _ -> {tables, current}
      "[[" <> rest -> open(tables, name!(rest, "]]"))
      "[" <> rest -> open(tables, name!(rest, "]"))
      line -> {value!(tables, current, line), current}
    end
  end

  defp open(tables, name), do: {Map.update(tables, name, [%{}], &[%{} | &1]), name}

  # Names of other sections may be quoted, and are not needed: they only must not be taken for ours.
  defp name!(rest, ending) do
    name = String.replace_suffix(rest, ending, "")

    cond do
      name != rest and name =~ ~r/\A[A-Za-z0-9_.-]+\z/ -> String.split(name, ".")
      name =~ ~r/\A["'\s]*nif\b/ -> raise Error, "nixcache.lock has a line that can't be read: [#{rest}"
      true -> [:other, name]
    end
  end

  defp value!(tables, current, line) do
    if current == [] or hd(current) == "nif" do
      case Regex.run(~r/\A([a-z0-9-]+) = (?:"([^"\\]*)"|([0-9]+))\z/, line) do
        [_, key, text] -> put(tables, current, key, text)
        [_, key, "", number] -> put(tables, current, key, number)
        _ -> raise Error, "nixcache.lock has a line that can't be read: #{line}"
      end
    else
      tables
    end
  end

  defp put(tables, current, key, value) do
    Map.update!(tables, current, fn [table | rest] ->
      if Map.has_key?(table, key), do: raise(Error, "nixcache.lock says `#{key}` twice")
      [Map.put(table, key, value) | rest]
    end)
  end

  defp file!(crate, nif, table) do
    file = %File{
      crate: crate,
      version: fetch!(nif, "version"),
      nif_version: fetch!(table, "nif-version"),
      target: fetch!(table, "target"),
      variant: table["variant"],
      archive: fetch!(table, "archive"),
      archive_hash: hash!(fetch!(table, "archive-hash")),
      archive_size: String.to_integer(fetch!(table, "archive-size")),
      library_hash: hash!(fetch!(table, "library-hash")),
      library_size: String.to_integer(fetch!(table, "library-size"))
    }

    if file.archive != library_file(file) <> ".tar.gz" do
      raise Error, "nixcache.lock has #{inspect(file.archive)} where #{library_file(file)}.tar.gz must be"
    end

    file
  end

  @doc "The name of the library in its archive."
  def library_file(%File{} = file) do
    variant = if file.variant, do: "--" <> file.variant, else: ""
    {prefix, ending} = if windows?(file), do: {"", "dll"}, else: {"lib", "so"}
    "#{prefix}#{file.crate}-v#{file.version}-nif-#{file.nif_version}-#{file.target}#{variant}.#{ending}"
  end

  @doc "The names of the library below `priv/native`."
  def native_files(%File{} = file, layout) do
    ending = if windows?(file), do: "dll", else: "so"
    legacy = if windows?(file), do: "#{file.crate}.dll", else: "lib#{file.crate}.so"

    case layout do
      :rustler -> ["#{file.crate}.#{ending}"]
      :legacy -> [legacy]
      :both -> Enum.uniq(["#{file.crate}.#{ending}", legacy])
    end
  end

  @doc "The file for this virtual machine: of those that it can load the one with the newest NIF version."
  def choose!(crate, files, target, nif_version, variant) do
    minor = minor!(nif_version)

    fitting =
      for file <- files, file.target == target, file.variant == variant, minor!(file.nif_version) <= minor, do: file

    case fitting do
      [] ->
        has = Enum.map_join(files, ", ", &"nif-#{&1.nif_version}-#{&1.target}")
        raise Error, "nixcache.lock has nothing of #{crate} for #{target} and NIF version #{nif_version}; it has #{has}"

      fitting ->
        Enum.max_by(fitting, &minor!(&1.nif_version))
    end
  end

  defp minor!(version) do
    case version do
      "2." <> minor -> String.to_integer(minor)
      _ -> raise Error, "#{inspect(version)} is no NIF version"
    end
  end

  defp windows?(file), do: String.contains?(file.target, "windows")

  # These become parts of paths and addresses.
  defp crate!(crate) do
    if crate =~ ~r/\A[A-Za-z0-9_]+\z/, do: crate, else: raise(Error, "nixcache.lock names a crate #{inspect(crate)}")
  end

  defp fetch!(table, key) do
    case Map.fetch(table, key) do
      {:ok, value} ->
        if value =~ ~r/\A[A-Za-z0-9_.+:\/=-]+\z/ and not String.contains?(value, ".."),
          do: value,
          else: raise(Error, "nixcache.lock has #{inspect(value)} as `#{key}`")

      :error ->
        raise Error, "nixcache.lock lacks `#{key}`"
    end
  end

  defp hash!("sha256:" <> hex) when byte_size(hex) == 64, do: String.downcase(hex)
  defp hash!(other), do: raise(Error, "nixcache.lock has #{inspect(other)} where a SHA-256 must be")
end
