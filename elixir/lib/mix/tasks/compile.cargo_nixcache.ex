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

  alias CargoNixcache.{Error, Fetch, Known, Lock, Platform, Source}

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

  @impl true
  def clean do
    File.rm(remembered())
    :ok
  end

  defp remembered, do: Path.join(Mix.Project.manifest_path(), "compile.cargo_nixcache")

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
    files = for {crate, nif} <- nifs, do: Lock.choose!(crate, nif.files, target, nif_version, options[:variant])
    program = program(options[:via] || :auto)
    known = Known.load(remembered())
    fits = fits?(lock, nifs, program, known)
    in_place? = fn -> Fetch.in_place?(files, out, layout, known) end

    before = in_place?.()

    # A library that is what was locked is of no use if something else was to be locked.
    result =
      if fits and before do
        {:noop, []}
      else
        fetch!(program, files, lock, out, layout, target, nif_version, options)
        unless in_place?.(), do: raise(Error, "what is in #{out} is not what was locked")

        # Mix links `priv` into the build directory before compilers run, and only if there is one.
        Mix.Project.build_structure()
        if before, do: {:noop, []}, else: {:ok, []}
      end

    Known.save(known, remembered())
    result
  end

  # Whether what is locked is what the sources are. Where that can't be told from here, our program looks at them, and
  # fails if they differ; without it there is an error: nobody shall run an old library unknowingly.
  defp fits?(lock, nifs, program, known) do
    Enum.reduce(nifs, true, fn {crate, nif}, fits ->
      case Source.compare(lock, crate, nif, known) do
        :fits -> fits
        {:stale, message} -> raise Error, message
        {:unclear, _} when program != nil -> false
        {:unclear, message} -> raise Error, message
      end
    end)
  end

  defp fetch!(program, files, lock, out, layout, target, nif_version, options) do
    case program do
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
