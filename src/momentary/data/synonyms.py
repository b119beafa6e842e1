"""What other systems call our fields and our event types."""

from __future__ import annotations

import re

from momentary.types import EVENT_TYPES

EVENT_NAMES: dict[str, tuple[str, ...]] = {
    "event_id": ("eventid", "messageid", "eventuuid", "uuid"),
    "user_id": (
        *("userid", "user", "customerid", "customer", "householdid", "household", "memberid"),
        *("accountid", "clientid", "shopperid", "reviewerid", "uid", "profileid", "username"),
    ),
    "anonymous_id": (
        *("anonymousid", "visitorid", "visitor", "userpseudoid", "deviceid", "cookieid"),
        *("cookie", "fullvisitorid"),
    ),
    "session_id": (
        *("sessionid", "session", "usersession", "visitid", "basketid", "basket", "invoice"),
        *("invoiceno", "invoiceid", "orderid", "order", "cartid", "receiptid", "playlistid"),
        *("transactionid",),
    ),
    "item_id": (
        *("itemid", "item", "productid", "product", "stockcode", "sku", "movieid", "asin"),
        *("articleid", "trackid", "songid", "bookid", "isbn", "contentid", "newsid", "videoid"),
        *("gameid", "offerid", "aid", "pid"),
    ),
    "event_type": (
        *("eventtype", "type", "eventname", "event", "action", "actiontype", "behavior"),
        *("behaviour", "behaviortype", "feedbacktype", "interaction", "interactiontype"),
        *("activity",),
    ),
    "timestamp": (
        *("timestampus", "timestamp", "ts", "time", "datetime", "eventtime", "eventtimestamp"),
        *("transactiontimestamp", "createdat", "created", "occurredat", "date", "eventdate"),
        *("invoicedate", "orderdate", "purchasedate", "unixtime", "unixreviewtime"),
        *("reviewtime", "playedat", "visittime", "tdat"),
    ),
    "value": (
        *("value", "rating", "stars", "overall", "score", "weight", "eventvalue", "salesvalue"),
        *("revenue", "amount"),
    ),
    "price": ("price", "unitprice", "itemprice"),
    "currency": ("currency", "currencycode"),
    "quantity": ("quantity", "qty", "units"),
    "recommendation_id": ("recommendationid",),
    "position": ("position", "rank", "index", "slot"),
    "properties": ("properties",),
}
"""Our field of an event -> the columns that mean it, best-known first, as `key` spells them."""

ITEM_NAMES: dict[str, tuple[str, ...]] = {
    "item_id": (
        *("itemid", "productid", "item", "product", "id", "sku", "stockcode", "movieid", "asin"),
        *("articleid", "trackid", "songid", "bookid", "isbn", "contentid", "newsid", "videoid"),
        *("gameid", "offerid", "handle", "clip", "image"),
    ),
    "group_id": ("groupid", "itemgroupid", "parentid", "parentasin", "variantgroup", "track"),
    "name": (
        *("name", "title", "productname", "productdisplayname", "itemname", "producttitle"),
        *("headline",),
    ),
    "description": (
        *("description", "desc", "productdescription", "plot", "overview", "summary"),
        *("abstract", "body", "text"),
    ),
    "image": (
        *("image", "imageurl", "imagelink", "picture", "photo", "poster", "posterurl"),
        *("thumbnail", "img", "imgurl"),
    ),
    "audio": ("audio", "audiourl", "audiofilename", "audiofile", "clip"),
    "video": ("video", "videourl", "trailer"),
    "brand": ("brand", "brandname", "manufacturer", "vendor", "maker"),
    "category": (
        *("category", "productcategory", "articletype", "categoryname", "categoryl1", "genres"),
        *("genre", "department", "producttype", "label", "stylehand", "style", "categoryid"),
    ),
    "price": ("price", "unitprice", "listprice", "saleprice", "medianprice"),
    "currency": ("currency", "currencycode", "pricecurrency"),
    "available": ("available", "instock", "availability"),
    "hidden": ("hidden",),
    "properties": ("properties",),
}
"""The same for items."""

_TYPE_NAMES = {
    "view_item": (
        *("view", "views", "viewed", "click", "clicks", "clicked", "pv", "pageview", "detail"),
        *("detailview", "itemview", "productview", "productviewed", "read", "watch", "watched"),
        *("play", "played", "listen", "open", "visit"),
    ),
    "view_item_list": (
        *("impression", "impressions", "exposure", "show", "shown", "productlistviewed"),
        *("viewsearchresults",),
    ),
    "select_item": ("select", "selectcontent", "productclicked", "itemclick", "clickitem"),
    "add_to_cart": (
        *("cart", "carts", "add", "basket", "addtobasket", "productadded", "atc", "added"),
        *("addtobag", "cartadd"),
    ),
    "remove_from_cart": ("remove", "removefrombasket", "productremoved", "cartremove"),
    "view_cart": ("cartviewed", "viewbasket"),
    "purchase": (
        *("buy", "buys", "bought", "order", "orders", "ordered", "ordercompleted", "sale"),
        *("transaction", "purchased", "purchases", "conversion"),
    ),
    "refund": ("cancel", "cancelled", "canceled", "return", "returned", "orderrefunded"),
    "rate": ("rating", "rated", "like", "liked", "star", "fav", "favorite", "favourite", "vote"),
    "review": ("comment", "reviewed", "productreviewed"),
    "share": ("shared", "productshared"),
    "search": ("searched", "productssearched", "query"),
}


def key(name: str) -> str:
    """Spell a name so that `user_id:token`, `User ID` and `userId` are one.

    >>> key("User ID")
    'userid'
    """
    plain = re.sub(r":(token|float)(_seq)?$", "", name)
    return re.sub(r"[^a-z0-9]", "", plain.lower())


_TYPE_OF = {name.replace("_", ""): name for name in EVENT_TYPES} | {
    alias: name for name, aliases in _TYPE_NAMES.items() for alias in aliases
}
_COLUMNS = frozenset(
    alias for known in (*EVENT_NAMES.values(), *ITEM_NAMES.values()) for alias in known
)


def known_type(name: str) -> str | None:
    """One of `EVENT_TYPES` for another system's name of an event; None if nobody uses it.

    >>> known_type("Order Completed")
    'purchase'
    """
    return _TYPE_OF.get(key(name))


def is_known_column(name: str) -> bool:
    """True if some system calls a column so."""
    return key(name) in _COLUMNS
