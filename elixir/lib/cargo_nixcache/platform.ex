defmodule CargoNixcache.Platform do
  @moduledoc false
  # What this virtual machine can load, in Rust's words.

  @doc "The target triple. `NIXCACHE_NIF_TARGET` says it in place of the virtual machine, as for Nerves."
  def target do
    case System.get_env("NIXCACHE_NIF_TARGET") do
      empty when empty in [nil, ""] ->
        triple(:os.type(), List.to_string(:erlang.system_info(:system_architecture)), :erlang.system_info(:wordsize))

      target ->
        target
    end
  end

  @doc "The NIF version, such as `2.16`."
  def nif_version, do: List.to_string(:erlang.system_info(:nif_version))

  @doc false
  def triple({:win32, _}, _system, wordsize), do: if(wordsize == 8, do: "x86_64", else: "i686") <> "-pc-windows-msvc"

  def triple({:unix, os}, system, _wordsize) do
    [arch | rest] = String.split(system, "-")
    arch = arch(arch)
    last = List.last(rest) || ""

    cond do
      os == :darwin -> "#{arch}-apple-darwin"
      os == :linux and String.contains?(last, "musl") -> "#{arch}-unknown-linux-#{last}"
      os == :linux and String.starts_with?(last, "gnu") -> "#{arch}-unknown-linux-#{last}"
      os == :linux -> "#{arch}-unknown-linux-gnu"
      true -> "#{arch}-unknown-#{os}"
    end
  end

  defp arch("amd64"), do: "x86_64"
  defp arch("arm64"), do: "aarch64"
  defp arch("riscv64"), do: "riscv64gc"
  defp arch(<<"i", digit, "86">>) when digit in ?3..?6, do: "i686"
  defp arch(arch), do: arch
end
