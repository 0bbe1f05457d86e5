defmodule CargoNixcache.Settings do
  @moduledoc false
  # Where the server is, and what proves who we are: variables first, then the application's configuration.

  alias CargoNixcache.Error

  def url!(given \\ nil) do
    case given || variable("NIXCACHE_NIF_URL") || Application.get_env(:cargo_nixcache, :url) do
      url when is_binary(url) ->
        check!(url)

      nil ->
        raise Error,
              "no address of NIFs is known: set NIXCACHE_NIF_URL, or `config :cargo_nixcache, url: …`, " <>
                "such as https://cache.example.org/nif/main"
    end
  end

  def token! do
    variable("NIXCACHE_NIF_TOKEN") || from_file!()
  end

  defp from_file! do
    case variable("NIXCACHE_NIF_TOKEN_FILE") || Application.get_env(:cargo_nixcache, :token_file) do
      nil ->
        nil

      path ->
        case File.read(path) do
          {:ok, text} -> String.trim(text)
          {:error, reason} -> raise Error, "can't read the token in #{path}: #{:file.format_error(reason)}"
        end
    end
  end

  defp check!(url) do
    case URI.parse(url) do
      %URI{scheme: scheme, host: host} when scheme in ["http", "https"] and is_binary(host) and host != "" -> url
      _ -> raise Error, "the address of NIFs must begin with https:// or http://"
    end
  end

  defp variable(name) do
    case System.get_env(name) do
      empty when empty in [nil, ""] -> nil
      value -> value
    end
  end
end
