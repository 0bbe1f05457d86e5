defmodule CargoNixcache.Http do
  @moduledoc false
  # One file over HTTP, for machines without the command line program. Redirects are not followed, so a credential
  # goes where it was meant for and nowhere else; no error shows more of an address than its place; and no more is read
  # than was asked for. (httpc reads the body of a refusal itself: that has the time of one answer.)

  alias CargoNixcache.Error

  @connect_timeout 5_000
  # For the beginning of an answer, and for each further piece.
  @timeout 60_000
  # For all of it: more where there is much to come.
  @whole 120_000
  @slowest 64

  @doc "The bytes of the file at `url`, of which there must be `size`."
  def get!(url, token, size) do
    ensure!([:crypto, :public_key, :ssl, :inets])
    headers = if token, do: [{~c"authorization", String.to_charlist("Bearer " <> token)}], else: []
    whole = @whole + div(size, @slowest)
    http = [timeout: whole, connect_timeout: @connect_timeout, autoredirect: false] ++ ssl(url)
    # Piece by piece, and the next one when it is asked for: a server can't send more than is wanted.
    options = [sync: false, stream: {:self, :once}, body_format: :binary]

    case :httpc.request(:get, {String.to_charlist(url), headers}, http, options) do
      {:ok, request} -> answer!(request, shown(url), size, System.monotonic_time(:millisecond) + whole)
      {:error, reason} -> unreachable!(shown(url), reason)
    end
  end

  defp answer!(request, shown, size, deadline) do
    receive do
      {:http, {^request, :stream_start, headers, handler}} ->
        case List.keyfind(headers, ~c"content-length", 0) do
          {_, length} when is_list(length) -> announced!(request, shown, to_string(length), size)
          _ -> :ok
        end

        pieces!(request, handler, shown, size, deadline, [], 0)

      {:http, {^request, {{_, status, _}, _, body}}} ->
        # A body without anything in it is not sent in pieces.
        if status == 200,
          do: wrong_size!(shown, "#{byte_size(body)}", size),
          else: raise(Error, "#{shown} answers with #{status}#{meaning(status)}")

      {:http, {^request, {:error, reason}}} ->
        unreachable!(shown, reason)
    after
      @timeout -> give_up!(request, shown)
    end
  end

  defp announced!(request, shown, length, size) do
    if length != to_string(size) do
      cancel(request)
      wrong_size!(shown, length, size)
    end
  end

  defp pieces!(request, handler, shown, size, deadline, pieces, read) do
    :httpc.stream_next(handler)

    receive do
      {:http, {^request, :stream, piece}} when read + byte_size(piece) <= size ->
        pieces!(request, handler, shown, size, deadline, [pieces, piece], read + byte_size(piece))

      {:http, {^request, :stream, _}} ->
        cancel(request)
        wrong_size!(shown, "more", size)

      {:http, {^request, :stream_end, _}} ->
        if read == size, do: IO.iodata_to_binary(pieces), else: wrong_size!(shown, "#{read}", size)

      {:http, {^request, {:error, reason}}} ->
        unreachable!(shown, reason)
    after
      min(@timeout, max(0, deadline - System.monotonic_time(:millisecond))) -> give_up!(request, shown)
    end
  end

  defp give_up!(request, shown) do
    cancel(request)
    unreachable!(shown, :timeout)
  end

  defp cancel(request) do
    :httpc.cancel_request(request)
    forget(request)
  end

  # What came in the meantime is nobody's message any more.
  defp forget(request) do
    receive do
      {:http, answer} when elem(answer, 0) == request -> forget(request)
    after
      0 -> :ok
    end
  end

  defp wrong_size!(shown, found, size) do
    raise Error, "#{shown} has #{found} bytes, and #{size} are locked: it was cut off or is another file"
  end

  defp unreachable!(shown, reason), do: raise(Error, "can't reach #{shown}: #{reason(reason)}")

  defp meaning(401), do: ": it asks for a token (NIXCACHE_NIF_TOKEN)"
  defp meaning(403), do: ": the token does not allow it"
  defp meaning(404), do: ": it isn't published there"
  defp meaning(status) when status in 300..399, do: ": redirects are not followed"
  defp meaning(_), do: ""

  # As people know them. What else is in a reason can hold what was sent.
  defp reason({:failed_connect, parts}) do
    case Enum.find_value(parts, fn part -> is_tuple(part) and tuple_size(part) == 3 and elem(part, 2) end) do
      reason when is_atom(reason) and reason not in [nil, false] -> to_string(:inet.format_error(reason))
      {:tls_alert, {alert, _}} -> "TLS: #{alert}"
      _ -> "no connection"
    end
  end

  defp reason(:timeout), do: "it takes too long"
  defp reason(reason) when is_atom(reason), do: Atom.to_string(reason)
  defp reason(_), do: "the connection broke"

  @doc false
  def shown(url) do
    uri = URI.parse(url)
    URI.to_string(%URI{uri | userinfo: nil, query: nil, fragment: nil})
  end

  defp ssl("https" <> _) do
    hostname = [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]
    [ssl: [verify: :verify_peer, depth: 3, customize_hostname_check: hostname] ++ certificates()]
  end

  defp ssl(_), do: []

  defp certificates do
    case Enum.find(["NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "HEX_CACERTS_PATH"], &(System.get_env(&1) not in [nil, ""])) do
      nil ->
        # From OTP 25 on.
        if function_exported?(:public_key, :cacerts_get, 0),
          do: [cacerts: apply(:public_key, :cacerts_get, [])],
          else: [cacertfile: ~c"/etc/ssl/certs/ca-certificates.crt"]

      name ->
        [cacertfile: String.to_charlist(System.get_env(name))]
    end
  end

  defp ensure!(applications) do
    # From Elixir 1.15 on, Mix hides applications that nobody depends upon.
    if function_exported?(Mix, :ensure_application!, 1) do
      Enum.each(applications, &apply(Mix, :ensure_application!, [&1]))
    end

    Enum.each(applications, fn application ->
      case Application.ensure_all_started(application) do
        {:ok, _} -> :ok
        {:error, _} -> raise Error, "Erlang's application #{application} is missing: it is needed to fetch over HTTP"
      end
    end)
  end
end
