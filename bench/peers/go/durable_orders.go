package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// An order and what may happen to it: the rules of hark's shop. Each runs within a transaction,
// moves the row from one state to the next and inserts the event that says so.

// cents is money: a decimal number on the wire, an integer in rows and events.
type cents int64

func (m cents) MarshalJSON() ([]byte, error) {
	text := strconv.AppendInt(nil, int64(m)/100, 10)
	return append(text, '.', byte('0'+m/10%10), byte('0'+m%10)), nil
}

func (m *cents) UnmarshalJSON(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	if err == nil {
		*m = cents(f*100 + 0.5)
	}
	return err
}

type orderItem struct {
	ProductID string `json:"product_id"`
	Quantity  int64  `json:"quantity"`
	Price     cents  `json:"price"`
}

type shopOrder struct {
	ID        string      `json:"id"`
	UserID    string      `json:"user_id"`
	Items     []orderItem `json:"items"`
	Total     cents       `json:"total"`
	Currency  string      `json:"currency"`
	Status    string      `json:"status"`
	Reason    string      `json:"reason,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
}

type eventItem struct {
	ProductID string `json:"product_id"`
	Quantity  int64  `json:"quantity"`
	Price     int64  `json:"price"`
}

type orderEvent struct {
	ID        string      `json:"id"`
	UserID    string      `json:"user_id"`
	Items     []eventItem `json:"items"`
	Total     int64       `json:"total"`
	Currency  string      `json:"currency"`
	Status    string      `json:"status"`
	Reason    string      `json:"reason,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
}

type note struct {
	OrderID  string `json:"order_id"`
	UserID   string `json:"user_id,omitempty"`
	Product  string `json:"product_id,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Total    int64  `json:"total,omitempty"`
	Currency string `json:"currency,omitempty"`
}

var (
	insertEvent  = sqlText(`INSERT INTO events(id, type, subject, correlationid, recorded_at, data) VALUES(?, ?, ?, ?, ?, ?)`)
	findUser     = sqlText(`SELECT 1 FROM users WHERE id = ?`)
	findPrice    = sqlText(`SELECT price FROM products WHERE sku = ?`)
	insertOrder  = sqlText(`INSERT INTO orders VALUES(?, ?, ?, ?, 'created', NULL, ?, 0)`)
	insertItem   = sqlText(`INSERT INTO order_items VALUES(?, ?, ?, ?, ?)`)
	insertDue    = sqlText(`INSERT OR IGNORE INTO due VALUES(?, ?)`)
	selectOrder  = sqlText(`SELECT user_id, total, currency, status, coalesce(reason, ''), created_at FROM orders WHERE id = ?`)
	selectItems  = sqlText(`SELECT product_id, quantity, price FROM order_items WHERE order_id = ? ORDER BY line`)
	setStatus    = sqlText(`UPDATE orders SET status = ?2 WHERE id = ?1 AND status = ?3`)
	setHolds     = sqlText(`UPDATE orders SET holds = ?2 WHERE id = ?1 AND holds <> ?2`)
	setCancelled = sqlText(`UPDATE orders SET status = 'cancelled', reason = ?2 WHERE id = ?1 AND status IN ('created', 'reserved', 'paid')`)
	takeStock    = sqlText(`UPDATE products SET stock = stock - ?2, reserved = reserved + ?2 WHERE sku = ?1 AND stock >= ?2`)
	giveStock    = sqlText(`UPDATE products SET stock = stock + ?2, reserved = reserved - ?2 WHERE sku = ?1`)
	sellStock    = sqlText(`UPDATE products SET reserved = reserved - ?2, sold = sold + ?2 WHERE sku = ?1`)
	insertPaid   = sqlText(`INSERT INTO payments VALUES(?, ?, ?, ?, NULL)`)
	refundPaid   = sqlText(`UPDATE payments SET refunded_at = ?2 WHERE order_id = ?1 AND refunded_at IS NULL`)
	insertShip   = sqlText(`INSERT INTO shipments VALUES(?, ?, ?)`)
)

func (t *tx) publish(kind, subject string, data []byte) error {
	now := time.Now()
	_, err := t.run(insertEvent, newID(now), kind, subject, subject, now.UnixNano(), data)
	t.published = true
	return err
}

func (t *tx) publishOrder(kind string, o *shopOrder) error {
	e := orderEvent{ID: o.ID, UserID: o.UserID, Total: int64(o.Total), Currency: o.Currency,
		Status: o.Status, Reason: o.Reason, CreatedAt: o.CreatedAt}
	for _, i := range o.Items {
		e.Items = append(e.Items, eventItem{i.ProductID, i.Quantity, int64(i.Price)})
	}
	data, err := json.Marshal(&e)
	if err != nil {
		return err
	}
	return t.publish(kind, o.ID, data)
}

func (t *tx) publishNote(kind string, n note) error {
	data, err := json.Marshal(&n)
	if err != nil {
		return err
	}
	return t.publish(kind, n.OrderID, data)
}

// refused is a request that cannot be granted; anything else is a failure.
type refused struct {
	status int
	text   string
}

func (r *refused) Error() string { return r.text }

func (t *tx) place(o *shopOrder) error {
	var one int
	if err := t.row(findUser, o.UserID).Scan(&one); err != nil {
		return &refused{422, "user_id: there is no user '" + o.UserID + "'"}
	}
	var total cents
	for i := range o.Items {
		item := &o.Items[i]
		var price cents
		if err := t.row(findPrice, item.ProductID).Scan(&price); err != nil {
			return &refused{422, fmt.Sprintf("items[%d].product_id: there is no product '%s'", i, item.ProductID)}
		}
		if item.Price != 0 && item.Price != price {
			return &refused{422, fmt.Sprintf("items[%d].price: another price", i)}
		}
		item.Price = price
		total += price * cents(item.Quantity)
	}
	if o.Total != 0 && o.Total != total {
		return &refused{422, "total: another total"}
	}
	o.Total, o.Currency, o.Status, o.CreatedAt = total, "EUR", "created", time.Now()
	if _, err := t.run(insertOrder, o.ID, o.UserID, o.Total, o.Currency, o.CreatedAt.UnixNano()); err != nil {
		return err
	}
	for i, item := range o.Items {
		if _, err := t.run(insertItem, o.ID, i, item.ProductID, item.Quantity, item.Price); err != nil {
			return err
		}
	}
	return t.publishOrder("order:created", o)
}

func (t *tx) load(id string) (*shopOrder, error) {
	o := &shopOrder{ID: id}
	var created int64
	err := t.row(selectOrder, id).Scan(&o.UserID, &o.Total, &o.Currency, &o.Status, &o.Reason, &created)
	if err == sql.ErrNoRows {
		return nil, &refused{404, "there is no order '" + id + "'"}
	} else if err != nil {
		return nil, err
	}
	o.CreatedAt = time.Unix(0, created)
	rows, err := t.rows(selectItems, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var item orderItem
		if err = rows.Scan(&item.ProductID, &item.Quantity, &item.Price); err != nil {
			return nil, err
		}
		o.Items = append(o.Items, item)
	}
	return o, rows.Err()
}

// move takes an order from one state to the next; another state is a conflict.
func (t *tx) move(id, from, to string) (*shopOrder, error) {
	o, err := t.load(id)
	if err != nil {
		return nil, err
	}
	if o.Status != from {
		return nil, &refused{409, "the order is " + o.Status}
	}
	o.Status = to
	_, err = t.run(setStatus, id, to, from)
	return o, err
}

func (t *tx) eachItem(q query, items []eventItem) (string, error) {
	for _, item := range items {
		n, err := t.run(q, item.ProductID, item.Quantity)
		if err != nil || n == 0 {
			return item.ProductID, err
		}
	}
	return "", nil
}

func (t *tx) reserve(e *orderEvent) error {
	n, err := t.run(setStatus, e.ID, "reserved", "created")
	if err != nil || n == 0 {
		return err // cancelled meanwhile
	}
	if _, err = t.Exec("SAVEPOINT stock"); err != nil {
		return err
	}
	missing, err := t.eachItem(takeStock, e.Items)
	if err != nil {
		return err
	}
	if missing != "" {
		if _, err = t.Exec("ROLLBACK TO stock"); err != nil {
			return err
		}
		if _, err = t.run(setStatus, e.ID, "created", "reserved"); err != nil {
			return err
		}
		return t.publishNote("inventory:rejected", note{OrderID: e.ID, Product: missing, Reason: "sold out"})
	}
	if _, err = t.run(setHolds, e.ID, 1); err != nil {
		return err
	}
	return t.publishNote("inventory:reserved",
		note{OrderID: e.ID, UserID: e.UserID, Total: e.Total, Currency: e.Currency})
}

func (t *tx) release(e *orderEvent) error {
	n, err := t.run(setHolds, e.ID, 0)
	if err != nil || n == 0 {
		return err
	}
	if _, err = t.eachItem(giveStock, e.Items); err != nil {
		return err
	}
	return t.publishNote("inventory:released", note{OrderID: e.ID})
}

func (t *tx) pay(id, reference string) (*shopOrder, error) {
	o, err := t.move(id, "reserved", "paid")
	if err != nil {
		return nil, err
	}
	if _, err = t.run(insertPaid, id, o.Total, reference, time.Now().UnixNano()); err != nil {
		return nil, err
	}
	return o, t.publishOrder("order:paid", o)
}

func (t *tx) refund(e *orderEvent) error {
	n, err := t.run(refundPaid, e.ID, time.Now().UnixNano())
	if err != nil || n == 0 {
		return err
	}
	return t.publishNote("payment:refunded", note{OrderID: e.ID, Total: e.Total, Currency: e.Currency})
}

func (t *tx) ship(id string) (*shopOrder, error) {
	o, err := t.move(id, "paid", "shipped")
	if err != nil {
		return nil, err
	}
	for _, item := range o.Items {
		if _, err = t.run(sellStock, item.ProductID, item.Quantity); err != nil {
			return nil, err
		}
	}
	if _, err = t.run(setHolds, id, 0); err != nil {
		return nil, err
	}
	if _, err = t.run(insertShip, id, "TRK-"+id, time.Now().UnixNano()); err != nil {
		return nil, err
	}
	return o, t.publishOrder("order:shipped", o)
}

func (t *tx) cancel(id, reason string) (*shopOrder, error) {
	n, err := t.run(setCancelled, id, reason)
	if err != nil {
		return nil, err
	}
	o, err := t.load(id)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, &refused{409, "the order is " + o.Status}
	}
	return o, t.publishOrder("order:cancelled", o)
}
