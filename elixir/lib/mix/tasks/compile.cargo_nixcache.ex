defmodule Mix.Tasks.Compile.CargoNixcache do
  @moduledoc """
  Fetches the NIFs that `nixcache.lock` names, before modules are compiled.

      compilers: [:cargo_nixcache] ++ Mix.compilers()

  It does nothing where the files are in place already. What it fetches is compared with the lock; nothing that was
  there is written to, so a running system keeps working.

  Options, under `:cargo_nixcache` in the project:

    * `:layout` - `:rustler` (`<crate>.so`, as rustler has it from 0.37 on; the default), `:legacy` (`lib<crate>.so`)
      or `:both`
    * `:out` - the directory of the files, `"priv/native"`
    * `:lock` - the lock file, `"nixcache.lock"`
    * `:crates` - the crates to fetch, as strings; all of the lock without it
    * `:variant` - the variant to fetch
    * `:via` - `:program` (`cargo-nixcache`), `:http`, or `:auto`: the program where it is installed
    * `:url` - the address for `:http`, in place of `NIXCACHE_NIF_URL`

  `NIXCACHE_NIF_SKIP=1` leaves everything as it is: for those who build the NIF themselves.
  """
  @shortdoc "Fetches NIFs by nixcache.lock"

  use Mix.Task.Compiler

  alias CargoNixcache.{Error, Fetch, Lock, Platform}

  @impl true
  def run(_arguments) do
    options = Mix.Project.config()[:cargo_nixcache] || []

    if System.get_env("NIXCACHE_NIF_SKIP") in ["1", "true"] do
      {:noop, []}
    else
      run_with(options)
    end
  rescue
    error in Error -> {:error, [diagnostic(error.message)]}
  end

  @impl true
  def manifests, do: []

  defp run_with(options) do
    lock = options[:lock] || "nixcache.lock"
    out = options[:out] || "priv/native"
    layout = options[:layout] || :rustler

    unless layout in [:rustler, :legacy, :both] do
      raise Error, "the layout must be :rustler, :legacy or :both, and is #{inspect(layout)}"
    end

    target = Platform.target()
    nif_version = Platform.nif_version()
    nifs = lock |> Lock.read!() |> selected!(options[:crates])
    Enum.each(nifs, fn {crate, nif} -> check_version!(lock, crate, nif) end)

    files = for {crate, nif} <- nifs, do: Lock.choose!(crate, nif.files, target, nif_version, options[:variant])

    if Fetch.in_place?(files, out, layout) do
      {:noop, []}
    else
      fetch!(files, lock, out, layout, target, nif_version, options)

      unless Fetch.in_place?(files, out, layout) do
        raise Error, "what is in #{out} is not what was locked"
      end

      # Mix links `priv` into the build directory before compilers run, and only if there is one.
      Mix.Project.build_structure()
      {:ok, []}
    end
  end

  defp fetch!(files, lock, out, layout, target, nif_version, options) do
    case program(options[:via] || :auto) do
      nil ->
        names = Enum.map_join(files, ", ", & &1.crate)
        Mix.shell().info("Fetching #{names} (#{target}, NIF #{nif_version})")
        Fetch.by_http!(files, out, layout, options[:url])

      program ->
        arguments =
          ["nif", "fetch", "--locked", "--lock-file", lock, "--out", out, "--layout", Atom.to_string(layout)] ++
            ["--target", target, "--nif-version", nif_version] ++
            if(options[:variant], do: ["--variant", options[:variant]], else: []) ++
            ["--" | Enum.map(files, & &1.crate)]

        output = Fetch.by_program!(program, arguments)
        if output != "", do: Mix.shell().info(output)
    end
  end

  defp program(:http), do: nil
  defp program(:auto), do: System.find_executable("cargo-nixcache")

  defp program(:program) do
    System.find_executable("cargo-nixcache") || raise Error, "cargo-nixcache isn't in PATH"
  end

  defp program(other), do: raise(Error, "`via` must be :auto, :program or :http, and is #{inspect(other)}")

  defp selected!(nifs, nil), do: Enum.sort(nifs)

  defp selected!(nifs, crates) do
    for crate <- crates do
      case Map.fetch(nifs, crate) do
        {:ok, nif} -> {crate, nif}
        :error -> raise Error, "nixcache.lock has no #{crate}"
      end
    end
  end

  # A lock that doesn't fit the sources would give an old library without a word.
  defp check_version!(lock, crate, nif) do
    with manifest when is_binary(manifest) <- nif.manifest,
         {:ok, text} <- File.read(Path.join(Path.dirname(lock), manifest)),
         [_, package] <- Regex.run(~r/^\[package\]$(.*?)(?=^\[|\z)/ms, text),
         [_, version] <- Regex.run(~r/^version\s*=\s*["']([^"']+)["']/m, package),
         false <- fits?(nif.version, version) do
      raise Error,
            "nixcache.lock is stale: it has #{crate} #{nif.version}, and #{manifest} is #{version}. " <>
              "`cargo nixcache nif lock` writes it anew, once the NIF is published"
    else
      _ -> :ok
    end
  end

  # The same, or the same with the content of the sources in it.
  defp fits?(locked, version) do
    locked == version or locked =~ ~r/\A#{Regex.escape(version)}[-.]s[0-9a-f]{12}\z/
  end

  defp diagnostic(message) do
    Mix.shell().error("** cargo_nixcache: " <> message)

    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "cargo_nixcache",
      file: Path.expand("nixcache.lock"),
      message: message,
      position: nil,
      severity: :error
    }
  end
end
