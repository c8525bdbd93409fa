package envelope.spark;

import java.net.URI;
import java.net.http.HttpRequest;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;
import shaded.parquet.com.fasterxml.jackson.databind.JsonNode;

/** The two operations of Key Vault's REST interface that wrap and unwrap keys. */
final class KeyVault {
  private static final String API = "?api-version=7.4";
  private static final Pattern KID =
      Pattern.compile("https://([^/]+)/keys/([A-Za-z0-9-]+)/([0-9a-f]{32})");

  /** Gives the bearer token for vaults of a cloud, which is named by the suffix of their hosts. */
  interface TokenSource {
    String token(String cloud);

    /** A vault refused the token; the next one is to be a fresh one. */
    default void refused(String cloud) {}
  }

  /** What the vault gave back, and the version of the key that it used. */
  record Answer(String version, byte[] value) {}

  private final TokenSource tokens;

  KeyVault(TokenSource tokens) {
    this.tokens = tokens;
  }

  /**
   * One operation.
   *
   * @param url the key; without a version, the vault takes the newest
   * @param operation {@code wrapkey} or {@code unwrapkey}
   * @param value the key in the clear, or a wrapped one
   */
  Answer call(KeyUrl url, String operation, String algorithm, byte[] value) {
    String body = "{\"alg\":\"" + algorithm + "\",\"value\":\"" + KeyVaultKmsClient.base64url(value) + "\"}";
    String about = operation + " " + url.text();
    Http.Answer answer = send(url, operation, body, about);
    if (answer.status() == 401) { // it expired early, or was revoked
      tokens.refused(url.cloud());
      answer = send(url, operation, body, about);
    }
    return read(answer, url, about);
  }

  private Http.Answer send(KeyUrl url, String operation, String body, String about) {
    return Http.send(HttpRequest.newBuilder(URI.create(url.text() + "/" + operation + API))
        .header("Authorization", "Bearer " + tokens.token(url.cloud()))
        .header("Content-Type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofString(body)), about);
  }

  private static Answer read(Http.Answer answer, KeyUrl url, String about) {
    int status = answer.status();
    if (status != 200) {
      String message = about + ": " + status + " " + answer.codes();
      if (status >= 400 && status < 500 && status != 429) {
        throw new KeyAccessDeniedException(message);
      }
      throw new ParquetCryptoRuntimeException(message);
    }
    JsonNode json = answer.json();
    Matcher kid = KID.matcher(json.path("kid").asText(""));
    if (!kid.matches() || !kid.group(1).equals(url.host()) || !kid.group(2).equalsIgnoreCase(url.name())
        || (url.version() != null && !url.version().equals(kid.group(3)))) {
      throw new ParquetCryptoRuntimeException(about + ": the vault answered for another key");
    }
    try {
      return new Answer(kid.group(3), Base64.getUrlDecoder().decode(json.path("value").asText("")));
    } catch (IllegalArgumentException error) { // its message would show a part of the value
      throw new ParquetCryptoRuntimeException(about + ": the answer has no value");
    }
  }
}
