package envelope.spark;

import java.io.IOException;
import java.io.InputStream;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;
import shaded.parquet.com.fasterxml.jackson.databind.JsonNode;
import shaded.parquet.com.fasterxml.jackson.databind.ObjectMapper;

/**
 * Requests and their JSON, with the JDK's client: Spark's class path has one vendor jar less.
 *
 * <p>Redirects are not followed, since they would carry a key or a token to wherever they say. Jackson
 * is the copy inside parquet-java, which is wherever a KmsClient is.
 */
final class Http {
  private static final int TRIES = 5;
  private static final int LONGEST_ANSWER = 64 * 1024;
  private static final Duration TIMEOUT = Duration.ofSeconds(10);
  private static final HttpClient CLIENT = HttpClient.newBuilder()
      .version(HttpClient.Version.HTTP_1_1)
      .followRedirects(HttpClient.Redirect.NEVER)
      .connectTimeout(TIMEOUT)
      .build();
  private static final ObjectMapper JSON = new ObjectMapper();

  private Http() {}

  /** A status and the JSON with it; an empty object where there was none. */
  record Answer(int status, JsonNode json) {
    /** The codes in an error: never its text, which may repeat what was sent. */
    String codes() {
      JsonNode error = json.path("error");
      String outer = error.isObject() ? error.path("code").asText("") : error.asText("");
      String inner = error.path("innererror").path("code").asText("");
      return (outer + " " + inner).replaceAll("[^A-Za-z0-9_ ]", "").strip();
    }
  }

  /** Sends a request, again where it failed in passing. */
  static Answer send(HttpRequest.Builder builder, String about) {
    HttpRequest request = builder.timeout(TIMEOUT).build();
    for (int attempt = 1; ; attempt++) {
      long wait = (200L << attempt) / 2 + ThreadLocalRandom.current().nextLong(200L << attempt);
      try {
        HttpResponse<InputStream> response =
            CLIENT.send(request, HttpResponse.BodyHandlers.ofInputStream());
        int status = response.statusCode();
        byte[] body;
        try (InputStream stream = response.body()) {
          body = stream.readNBytes(LONGEST_ANSWER);
        }
        if (attempt == TRIES || (status != 429 && status < 500)) {
          return new Answer(status, parsed(body));
        }
        long asked = response.headers().firstValue("Retry-After").filter(s -> s.matches("\\d{1,2}"))
            .map(Long::parseLong).orElse(0L);
        wait = Math.max(wait, 1000 * Math.min(asked, 10));
      } catch (IOException error) {
        if (attempt == TRIES) {
          throw new ParquetCryptoRuntimeException(about + ": no answer", error);
        }
      } catch (InterruptedException error) {
        Thread.currentThread().interrupt();
        throw new ParquetCryptoRuntimeException(about + ": interrupted", error);
      }
      pause(wait, about);
    }
  }

  private static JsonNode parsed(byte[] body) {
    try {
      JsonNode json = JSON.readTree(body);
      return json != null && json.isObject() ? json : JSON.createObjectNode();
    } catch (IOException error) { // its message would quote the body
      return JSON.createObjectNode();
    }
  }

  private static void pause(long milliseconds, String about) {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw new ParquetCryptoRuntimeException(about + ": interrupted", error);
    }
  }
}
