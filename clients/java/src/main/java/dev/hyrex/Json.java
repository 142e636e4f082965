package dev.hyrex;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.Strictness;
import com.google.protobuf.ByteString;
import dev.hyrex.v1.UpstreamResult;
import java.lang.reflect.Type;
import java.util.List;
import java.util.Set;

/** JSON as the other languages read it: strict, nulls kept, nothing escaped for HTML. */
final class Json {
  static final Gson STRICT =
      new GsonBuilder().setStrictness(Strictness.STRICT).serializeNulls().disableHtmlEscaping().create();

  private static final Set<String> TYPES = Set.of("", "application/json");
  private static final String LISTED = "[]";

  private Json() {}

  /** The payload, with the results that a workflow's node is given among its members. */
  static <T> T decode(ByteString payload, List<UpstreamResult> results, Type type) {
    if (results.isEmpty()) {
      return decode(payload, type);
    }
    JsonElement arguments = decode(payload, JsonElement.class);
    if (!arguments.isJsonObject()) {
      throw new JsonParseException("the payload of a node must be a JSON object");
    }
    JsonObject given = new JsonObject();
    for (UpstreamResult each : results) {
      if (!TYPES.contains(each.getContentType())) {
        throw new JsonParseException("a result of " + each.getTaskName() + " is " + each.getContentType());
      }
      add(given, each.getParameter(), decode(each.getResult(), JsonElement.class));
    }
    given.entrySet().forEach(each -> arguments.getAsJsonObject().add(each.getKey(), each.getValue()));
    return STRICT.fromJson(arguments, type);
  }

  private static void add(JsonObject given, String parameter, JsonElement result) {
    if (!parameter.endsWith(LISTED)) {
      given.add(parameter, result);
      return;
    }
    String name = parameter.substring(0, parameter.length() - LISTED.length());
    if (!given.has(name)) {
      given.add(name, new JsonArray());
    }
    given.getAsJsonArray(name).add(result);
  }

  static <T> T decode(ByteString bytes, Type type) {
    if (bytes.isEmpty() || !bytes.isValidUtf8()) {
      throw new JsonParseException(bytes.isEmpty() ? "the payload is empty" : "the payload is not UTF-8");
    }
    return STRICT.fromJson(bytes.toStringUtf8(), type);
  }
}
