defmodule CargoNixcache do
  @moduledoc """
  NIFs that were built once, published with `cargo nixcache nif publish`, and are fetched by `nixcache.lock`.

  In a project, put the compiler before the others:

      def project do
        [
          compilers: [:cargo_nixcache] ++ Mix.compilers(),
          cargo_nixcache: [layout: :rustler]
        ]
      end

  See `Mix.Tasks.Compile.CargoNixcache` for its options. With RustlerPrecompiled no compiler is needed; the server is
  its `base_url`:

      use RustlerPrecompiled, base_url: {CargoNixcache, :url}

  The address and the token are not in the code:

    * `NIXCACHE_NIF_URL`, or `config :cargo_nixcache, url: "https://cache.example.org/nif/main"`
    * `NIXCACHE_NIF_TOKEN`, or a file that holds it: `NIXCACHE_NIF_TOKEN_FILE`, or
      `config :cargo_nixcache, token_file: "/run/secrets/nixcache"`

  A token is sent over https alone, and to this machine itself. `NIXCACHE_NIF_ALLOW_HTTP=1`, or `config :cargo_nixcache,
  allow_http: true`, allows plain http, for networks that are trusted.
  """

  alias CargoNixcache.Settings

  @doc """
  Where an archive is, and what to prove who we are with: for `base_url: {CargoNixcache, :url}` of RustlerPrecompiled.

  Without a token it is the address alone. RustlerPrecompiled writes neither into its metadata.
  """
  @spec url(String.t()) :: String.t() | {String.t(), [{String.t(), String.t()}]}
  def url(file) when is_binary(file) do
    base = Settings.url!()

    case Settings.token!(base) do
      nil -> address(base, file)
      token -> {address(base, file), [{"authorization", "Bearer " <> token}]}
    end
  end

  @doc false
  def address(base, file), do: String.trim_trailing(base, "/") <> "/" <> URI.encode(file)
end
